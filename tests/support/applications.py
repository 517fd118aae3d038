"""Ordinary programs at work in a directory, each with a check that can fail.

Every function gets an empty directory on the mount and a scratch directory elsewhere, runs a program as its user would,
and raises AssertionError (or CalledProcessError) when the program, or what it left, is wrong. The directory is then
compared with the bucket by the caller (``bucketcompare``).
"""

import filecmp
import mmap
import os
import random
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path

Application = Callable[[Path, Path], None]

COMMAND_S_MAX = 120


def run(*command: str | Path, cwd: Path, **env: str) -> str:
    """Run a command; returns its output, raises with it when the command fails."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=os.environ | env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=COMMAND_S_MAX,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}: status {done.returncode}\n{done.stdout}"
    return done.stdout


def sample_tree(root: Path, files: int = 40) -> Path:
    """A tree with what trees have: sizes, modes, times, links, odd names, an empty directory."""
    rng = random.Random(7)
    for number in range(files):
        directory = root / f"dir {number % 5}" / ("nested" if number % 3 else "émigré")
        directory.mkdir(parents=True, exist_ok=True)
        file = directory / f"file-{number}"
        file.write_bytes(rng.randbytes(rng.choice([0, 1, 100, 5000, 70_000])))
        file.chmod(rng.choice([0o600, 0o644, 0o755, 0o4755]))
        os.utime(file, ns=(10**18, 10**18 + number * 10**9 + 7))
    (root / "link").symlink_to("dir 0/nested")
    (root / "dangling").symlink_to("nowhere")
    (root / "empty").mkdir()
    os.mkfifo(root / "fifo")
    for path in root.rglob("*"):
        if path.is_dir() and not path.is_symlink():
            os.utime(path, ns=(10**18, 10**18))
    return root


def git(work: Path, scratch: Path) -> None:
    """clone, branch, commit, merge, gc, fsck, push."""
    env = {"HOME": str(scratch), "GIT_CONFIG_NOSYSTEM": "1", "EMAIL": "t@example.com", "GIT_AUTHOR_NAME": "T",
           "GIT_COMMITTER_NAME": "T"}  # fmt: skip
    origin, seed, clone = scratch / "origin.git", scratch / "seed", work / "clone"
    run("git", "init", "-q", "--bare", "-b", "main", origin, cwd=scratch, **env)
    run("git", "init", "-q", "-b", "main", seed, cwd=scratch, **env)
    for number in range(20):
        (seed / f"file-{number}").write_text(f"{number}\n" * (number * 50 + 1))
        run("git", "add", "-A", cwd=seed, **env)
        run("git", "commit", "-qm", f"change {number}", cwd=seed, **env)
    run("git", "push", "-q", origin, "main", cwd=seed, **env)

    run("git", "clone", "-q", origin, clone, cwd=work, **env)
    assert run("git", "status", "--porcelain", cwd=clone, **env) == ""
    run("git", "checkout", "-qb", "topic", "HEAD~5", cwd=clone, **env)
    assert not (clone / "file-19").exists()
    (clone / "new file").write_text("content\n")
    run("git", "add", "-A", cwd=clone, **env)
    run("git", "commit", "-qm", "new", cwd=clone, **env)
    run("git", "checkout", "-q", "main", cwd=clone, **env)
    run("git", "merge", "-q", "--no-edit", "topic", cwd=clone, **env)
    run("git", "gc", "-q", "--prune=now", cwd=clone, **env)
    run("git", "fsck", "--strict", "--full", cwd=clone, **env)
    run("git", "push", "-q", "origin", "main", cwd=clone, **env)
    assert run("git", "status", "--porcelain", cwd=clone, **env) == ""
    tips = {run("git", "rev-parse", "main", cwd=place, **env) for place in (clone, origin)}
    assert len(tips) == 1
    assert (clone / "file-19").read_text() == "19\n" * 951


def sqlite_rollback(work: Path, scratch: Path) -> None:
    """Transactions, one rolled back, in the default journal mode; integrity and sums checked."""
    _sqlite(work / "rollback.db", "delete")


def sqlite_wal(work: Path, scratch: Path) -> None:
    """The same with a write-ahead log, which needs shared memory maps."""
    _sqlite(work / "wal.db", "wal")


def _sqlite(path: Path, mode: str) -> None:
    writer = sqlite3.connect(path, isolation_level=None)
    assert writer.execute(f"PRAGMA journal_mode={mode}").fetchone() == (mode,)
    writer.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, text TEXT)")
    reader = sqlite3.connect(path, isolation_level=None)
    for batch in range(10):
        writer.execute("BEGIN IMMEDIATE")
        writer.executemany("INSERT INTO t (text) VALUES (?)", [(f"{batch}-{n}" * 20,) for n in range(50)])
        writer.execute("ROLLBACK" if batch == 5 else "COMMIT")
        assert reader.execute("SELECT count(*) FROM t").fetchone() == ((batch + 1 - (batch >= 5)) * 50,)
    writer.execute("DELETE FROM t WHERE n % 3 = 0")
    writer.execute("VACUUM")
    assert reader.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    reader.close()
    writer.close()
    again = sqlite3.connect(path)
    assert again.execute("SELECT count(*) FROM t").fetchone() == (300,)
    assert again.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    again.close()


def tar(work: Path, scratch: Path) -> None:
    """Unpack on the mount, compare, pack from the mount, unpack elsewhere, compare."""
    source = sample_tree(scratch / "source")
    run("tar", "--format=posix", "-cpf", "one.tar", "source", cwd=scratch)
    run("tar", "-xpf", scratch / "one.tar", cwd=work)
    assert run("tar", "-df", scratch / "one.tar", cwd=work) == ""
    (scratch / "back").mkdir()
    run("tar", "--format=posix", "-cpf", work / "two.tar", "source", cwd=work)
    run("tar", "-xpf", work / "two.tar", cwd=scratch / "back")
    assert run("tar", "-df", scratch / "one.tar", cwd=scratch / "back") == ""
    assert_same(source, scratch / "back" / "source")


def rsync(work: Path, scratch: Path) -> None:
    """Twice: the second run finds nothing to do."""
    source = sample_tree(scratch / "rsync-source")
    os.setxattr(source / "dir 1" / "nested" / "file-1", "user.note", b"kept")
    command = ("rsync", "-aHX", "--itemize-changes", f"{source}/", f"{work}/copy/")
    assert "file-1\n" in run(*command, cwd=scratch)
    assert run(*command, cwd=scratch) == ""
    assert run(*command[:2], "--checksum", *command[2:], cwd=scratch) == ""
    (source / "dir 1" / "nested" / "file-1").write_bytes(b"changed")
    assert run(*command, cwd=scratch).splitlines()[-1].endswith("dir 1/nested/file-1")
    assert os.getxattr(work / "copy" / "dir 1" / "nested" / "file-1", "user.note") == b"kept"


def make(work: Path, scratch: Path) -> None:
    """A C build: everything once, nothing the second time, one object after one edit; the program runs from there."""
    for number in range(5):
        (work / f"part{number}.c").write_text(f"int part{number}(void) {{ return {number}; }}\n")
    calls = "+".join(f"part{number}()" for number in range(5))
    prototypes = "".join(f"int part{number}(void);" for number in range(5))
    (work / "main.c").write_text(
        f'#include <stdio.h>\n{prototypes}\nint main(void) {{ printf("%d\\n", {calls}); return 0; }}\n'
    )
    (work / "Makefile").write_text(
        "OBJECTS = main.o " + " ".join(f"part{number}.o" for number in range(5)) + "\n"
        "program: $(OBJECTS)\n\t$(CC) -o $@ $(OBJECTS)\n%.o: %.c\n\t$(CC) -c -o $@ $<\n"
    )
    assert run("make", "-j2", cwd=work).count("-c -o") == 6
    assert run(work / "program", cwd=work) == "10\n"
    assert "up to date" in run("make", cwd=work)
    (work / "part4.c").write_text("int part4(void) { return 40; }\n")
    assert run("make", cwd=work).count("-c -o") == 1
    assert run(work / "program", cwd=work) == "46\n"


def editor(work: Path, scratch: Path) -> None:
    """Save as editors do: a temporary file, fsync, rename over; and vim itself where it is installed."""
    file = work / "notes.txt"
    for number in range(5):
        temporary = work / ".notes.txt.swp"
        with temporary.open("w") as stream:
            stream.write(f"version {number}\n" * 100)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.rename(file)
    assert file.read_text() == "version 4\n" * 100
    if shutil.which("vim"):
        run("vim", "-u", "NONE", "-es", "-c", "%s/version/edition/", "-c", "wq", file, cwd=work, HOME=str(scratch))
        assert file.read_text() == "edition 4\n" * 100
    assert os.listdir(work) == ["notes.txt"]


def memory_maps(work: Path, scratch: Path) -> None:
    """Two shared mappings of one file see each other, and what they wrote is in the file."""
    file, size = work / "mapped", 1 << 20
    file.write_bytes(bytes(size))
    rng = random.Random(3)
    expected = bytearray(size)
    with file.open("r+b") as one, file.open("r+b") as two:
        first, second = mmap.mmap(one.fileno(), size), mmap.mmap(two.fileno(), size)
        for _ in range(200):
            at, piece = rng.randrange(size - 100), rng.randbytes(100)
            (first if rng.random() < 0.5 else second)[at : at + 100] = piece
            expected[at : at + 100] = piece
        assert first[:] == second[:] == bytes(expected)
        first.flush()
        first.close()
        second.close()
    assert file.read_bytes() == bytes(expected)


def sparse_copy(work: Path, scratch: Path) -> None:
    """cp --sparse to and from the mount keeps every byte."""
    source = scratch / "sparse"
    with source.open("wb") as stream:
        stream.write(b"head")
        stream.seek(8 << 20)
        stream.write(b"tail")
    for mode in ("always", "auto", "never"):
        run("cp", f"--sparse={mode}", source, work / mode, cwd=work)
        run("cp", f"--sparse={mode}", work / mode, scratch / f"back-{mode}", cwd=work)
        assert filecmp.cmp(source, work / mode, shallow=False)
        assert filecmp.cmp(source, scratch / f"back-{mode}", shallow=False)


def shutil_moves(work: Path, scratch: Path) -> None:
    """copytree to the mount, move within it, move away from it, rmtree."""
    source = sample_tree(scratch / "tree")
    (source / "fifo").unlink()  # shutil refuses to copy those
    shutil.copytree(source, work / "copy", symlinks=True)
    shutil.move(work / "copy", work / "moved")
    assert_same(source, work / "moved")
    shutil.copytree(work / "moved", work / "second", symlinks=True)
    shutil.move(work / "second", scratch / "away")
    assert_same(source, scratch / "away")
    shutil.rmtree(work / "moved" / "dir 1")
    assert sorted(os.listdir(work)) == ["moved"]
    assert "dir 1" not in os.listdir(work / "moved")


def assert_same(one: Path, two: Path) -> None:
    """Same names, bytes, modes and times below two directories."""

    def seen(root: Path) -> dict[str, tuple[object, ...]]:
        found = {}
        for path in root.rglob("*"):
            status = path.lstat()
            data = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else b""
            times = status.st_mtime_ns if path.is_file() and not path.is_symlink() else 0
            found[str(path.relative_to(root))] = (status.st_mode, times, data)
        return found

    assert seen(one) == seen(two)


def many_small_files(work: Path, scratch: Path) -> None:
    """500 files in one directory: created, listed, read, half of them removed."""
    directory = work / "many"
    directory.mkdir()
    for number in range(500):
        (directory / f"{number:04}").write_text(str(number))
    assert sorted(os.listdir(directory)) == [f"{number:04}" for number in range(500)]
    assert all((directory / f"{number:04}").read_text() == str(number) for number in range(500))
    for number in range(0, 500, 2):
        (directory / f"{number:04}").unlink()
    assert len(os.listdir(directory)) == 250


ALL: tuple[Application, ...] = (
    git,
    sqlite_rollback,
    sqlite_wal,
    tar,
    rsync,
    make,
    editor,
    memory_maps,
    sparse_copy,
    shutil_moves,
    many_small_files,
)
