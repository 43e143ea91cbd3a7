"""Make the account that pods run as, and the folders that it may write when no volume is mounted there."""

import os
from pathlib import Path

NAME, IDENTITY = "fairlead", 10001


def main() -> None:
    """Append to the password file directly: slim images may lack useradd."""
    home = Path("/home") / NAME
    with open("/etc/passwd", "a") as users, open("/etc/group", "a") as groups:
        users.write(f"{NAME}:x:{IDENTITY}:{IDENTITY}:Fairlead:{home}:/usr/sbin/nologin\n")
        groups.write(f"{NAME}:x:{IDENTITY}:\n")
    for folder in (home, Path("/var") / NAME):
        folder.mkdir(parents=True)
        os.chown(folder, IDENTITY, IDENTITY)


main()
