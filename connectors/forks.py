"""Both sides of a fork as files: signed notes that anybody's tools can read (C2SP signed-note).

The store holds the same evidence with the alarm. The files are for whoever is to be shown it.
"""

from hashlib import sha256
from pathlib import Path

from connectors import files
from connectors.alarms import Finding
from schemas.encoding import unb64url

SIDES = ("ours", "theirs")


def keep(folder: Path, finding: Finding) -> None:
    """Write the signed checkpoints in a finding's evidence, durably; once, however often found.

    Raises:
        OSError: the disk is full or not to be written.
    """
    notes = {
        side: unb64url(value)
        for side in SIDES
        if isinstance(value := finding.evidence.get(side), str)
    }
    name = f"{finding.kind}-{sha256(b''.join(notes.values())).hexdigest()[:16]}"
    for side, note in notes.items():
        path = folder / f"{name}.{side}"
        if not path.exists():
            files.make_folder(folder)
            files.write(path, note)
