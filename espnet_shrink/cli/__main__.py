"""python -m espnet_shrink.cli, as espnet-shrink."""

from espnet_shrink.cli import main

main()
