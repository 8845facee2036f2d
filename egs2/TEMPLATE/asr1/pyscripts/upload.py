#!/usr/bin/env python3
"""Upload a packed model to the Hugging Face Hub: upload.py PACKED.zip OWNER/NAME."""

from __future__ import annotations

import sys
import tempfile
import zipfile
from pathlib import Path

from data_dir import fail

CARD = """---
tags:
- espnet
- audio
- automatic-speech-recognition
license: cc-by-4.0
---
# {name}

An ESPnet speech recogniser. Decode with it:

```python
from espnet2.bin.asr_inference import Speech2Text

speech2text = Speech2Text.from_pretrained("{name}")
```

{results}
"""


def main() -> None:
    packed, name = Path(sys.argv[1]), sys.argv[2]
    try:
        from huggingface_hub import HfApi
    except ImportError:
        fail("uploading needs the package huggingface_hub: pip install huggingface_hub")
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(packed) as archive:
            archive.extractall(folder)
        found = sorted(Path(folder).rglob("RESULTS.md"))
        results = found[0].read_text(encoding="utf-8") if found else ""
        card = CARD.format(name=name, results=results)
        (Path(folder) / "README.md").write_text(card, encoding="utf-8")
        try:
            api = HfApi()
            api.create_repo(name, exist_ok=True)
            api.upload_folder(repo_id=name, folder_path=folder, commit_message="Update model")
        # The hub's client raises errors of several libraries: any of them is the user's to see.
        except Exception as error:
            fail(f"upload to {name} failed: {str(error).strip().splitlines()[0]}")


if __name__ == "__main__":
    main()
