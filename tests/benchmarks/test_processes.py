"""Programs are started, watched and always ended; records are read as they are written."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from osmo_benchmarks.errors import ProgramError, WrongResultError
from osmo_benchmarks.processes import program, server
from osmo_benchmarks.records import Records

PYTHON = (sys.executable, "-c")
SERVER = "import signal, time; print('listening on 1.2.3.4:5', flush=True); signal.pause()"


def gone(pid: int) -> bool:
    """Whether a process has ended and was waited for."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


async def test_a_server_is_ready_when_it_says_so(tmp_path: Path) -> None:
    """And gone when its context ends."""
    async with server("it", (*PYTHON, SERVER), tmp_path / "log") as running:
        assert running.url == "1.2.3.4:5"
        assert running.rss_megabytes() > 1
        assert running.peak_rss_megabytes() >= running.rss_megabytes()
        assert running.cpu_seconds() >= 0
        running.check()
        pid = running.pid
    assert gone(pid)


async def test_a_crash_is_told_with_the_end_of_the_log(tmp_path: Path) -> None:
    """The last lines only."""
    code = "import sys; [print('line', n, file=sys.stderr) for n in range(99)]; sys.exit(3)"
    with pytest.raises(ProgramError) as caught:
        async with server("the peer", (*PYTHON, code), tmp_path / "log"):
            pass
    text = str(caught.value)
    assert text.startswith("the peer did not start listening")
    assert "line 98" in text
    assert "line 50" not in text


async def test_what_cannot_be_started_is_named(tmp_path: Path) -> None:
    """As an error of ours."""
    with pytest.raises(ProgramError, match="the peer cannot be started"):
        async with program("the peer", (str(tmp_path / "absent"),), tmp_path / "log"):
            pass


async def test_the_output_of_one_that_ends(tmp_path: Path) -> None:
    """All of it, with its environment."""
    code = "import os; print(os.environ['WORD'] * 100_000)"
    async with program("it", (*PYTHON, code), tmp_path / "log", {"WORD": "ab"}) as running:
        assert (await running.output(20.0)).strip() == "ab" * 100_000
        with pytest.raises(ProgramError, match="ended with exit code 0"):
            running.check()


async def test_the_failure_of_one_that_ends(tmp_path: Path) -> None:
    """Its exit code is told."""
    async with program("it", (*PYTHON, "raise SystemExit(4)"), tmp_path / "log") as running:
        with pytest.raises(ProgramError, match="it ended with exit code 4"):
            await running.output(20.0)


async def test_it_ends_with_a_cancelled_owner(tmp_path: Path) -> None:
    """No process stays behind."""
    pids: asyncio.Queue[int] = asyncio.Queue()

    async def own() -> None:
        async with server("it", (*PYTHON, SERVER), tmp_path / "log") as running:
            await pids.put(running.pid)
            await asyncio.Event().wait()

    owner = asyncio.create_task(own())
    pid = await pids.get()
    owner.cancel()
    with pytest.raises(asyncio.CancelledError):
        await owner
    assert gone(pid)


async def test_records_are_read_line_by_line(tmp_path: Path) -> None:
    """Half a line waits for its other half."""
    path = tmp_path / "records"
    records = Records(path)
    assert records.read() == 0
    line = '{"at": 1, "created": 2, "key": "pod", "status": "RUNNING", "acked": 3}\n'
    path.write_text(line + line[:20])
    assert records.read() == 1
    path.write_text(line + line)
    assert records.read() == 2
    assert (records.all[1].key, records.all[1].acked, records.all[1].worker) == ("pod", 3, "")


async def test_waiting_for_records_ends(tmp_path: Path) -> None:
    """With those that are there, or with an error that counts them."""
    path = tmp_path / "records"
    path.write_text('{"at": 1, "created": 2, "key": "pod", "status": "RUNNING"}\n')
    records = Records(path)
    assert len(await records.until(lambda all_: len(all_) == 1, 10.0)) == 1
    with pytest.raises(WrongResultError, match="only 1 reports"):
        await Records(path).until(lambda all_: len(all_) == 2, 0.0)


async def test_waiting_for_records_of_a_dead_program_ends_at_once(tmp_path: Path) -> None:
    """Its log says why nothing comes."""
    code = "import sys; sys.exit('out of luck')"
    async with program("it", (*PYTHON, code), tmp_path / "log") as running:
        with pytest.raises(ProgramError, match="out of luck"):
            await Records(tmp_path / "records").until(bool, 20.0, running)
