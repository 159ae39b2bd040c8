"""`python -m train push FOLDER REPO`: a finished checkpoint to the Hugging Face Hub. Sends nothing unless told to."""

import argparse
import os
import sys
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

#: What makes a folder a checkpoint.
_NEEDED = ("config.json", "tokenizer.json", "processor_config.json", "chat_template.jinja")


def main(arguments: list[str]) -> int:
    """Run the command; 0, or 1 after a line on stderr."""
    parser = argparse.ArgumentParser(prog="python -m train push", description=__doc__)
    parser.add_argument("folder", type=Path, help="a checkpoint folder, as training leaves it")
    parser.add_argument("repo", help='the hub repository, "owner/name"; made if it is not there')
    parser.add_argument("--send", action="store_true", help="do it; without this only say what would be sent")
    parser.add_argument("--public", action="store_true", help="a new repository is for everybody (default: private)")
    args = parser.parse_args(arguments)
    missing = [name for name in _NEEDED if not (args.folder / name).is_file()]
    if missing or not list(args.folder.glob("*.safetensors")):
        print(
            f"error: {args.folder} is not a checkpoint: {(*missing, 'model.safetensors')[0]} is missing",
            file=sys.stderr,
        )
        return 1
    files = sorted(file for file in args.folder.rglob("*") if file.is_file())
    for file in files:
        print(f"{file.stat().st_size:>14,}  {file.relative_to(args.folder)}")
    if not args.send:
        print(f"nothing was sent; --send uploads these {len(files)} files to {args.repo}")
        return 0
    token = os.environ.get("HF_TOKEN")
    if not token:
        print("error: set HF_TOKEN to a token that may write to the repository", file=sys.stderr)
        return 1
    try:
        api = HfApi(token=token)
        api.create_repo(args.repo, private=not args.public, exist_ok=True)
        url = api.upload_folder(repo_id=args.repo, folder_path=args.folder, commit_message="Checkpoint")
    except (HfHubHTTPError, OSError, ValueError) as error:
        print(f"error: {args.repo}: {(str(error).strip().splitlines() or ['no answer'])[0]}", file=sys.stderr)
        return 1
    print(url)
    return 0
