"""Make ESPNET_NAME.zip and .json here, with the ESPnet that is installed."""

import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from architectures import make  # noqa: E402
from conftest import compress  # noqa: E402
from test_architectures import hypotheses  # noqa: E402
from toy import random_plan  # noqa: E402

from espnet_shrink.compat.models import espnet_version  # noqa: E402
from espnet_shrink.export.pack import pack  # noqa: E402
from espnet_shrink.methods.lowrank.sites import survey  # noqa: E402
from espnet_shrink.sources import open_source  # noqa: E402

HERE = Path(__file__).resolve().parent
NAMES = ["rnn", "conformer"]


def main() -> None:
    for name in NAMES:
        with tempfile.TemporaryDirectory() as scratch:
            base = make(name, Path(scratch) / "exp")
            plan = random_plan(survey(base.model).sites, 4)
            small = compress(base, plan, Path(scratch) / "small")
            stem = f"{espnet_version()}_{name}"
            source = open_source(str(small.config.parent), Path(scratch) / "unused")
            pack(source, HERE / f"{stem}.zip", {})
            found = hypotheses(name, small)
        (HERE / f"{stem}.json").write_text(json.dumps(found) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
