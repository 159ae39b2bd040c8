"""`app.py` that waits no longer than a few seconds for anything: for tests of what becomes of those who wait."""

import sys
from dataclasses import replace

import aura_core.profiles as profiles
import aura_core.state_folder as state_folder

#: Seconds for a decision.
PATIENCE = 4.0


def main() -> int:
    """Run the command line."""
    patient = profiles.Profile.session_config

    def session_config(self, **changes):
        return replace(patient(self, **changes), step_timeout=PATIENCE, abort_timeout=0.2)

    profiles.Profile.session_config = session_config
    state_folder.PATIENCE = PATIENCE
    from app import main

    return main()


if __name__ == "__main__":
    sys.exit(main())
