# shellcheck shell=bash
# Settings of this recipe's environment; ESPnet's path.sh sources this file last.
