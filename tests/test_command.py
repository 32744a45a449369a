"""Commands that measure and train end with an exit code, and an error is one line."""

from __future__ import annotations

import pytest

from pccodec import errors
from pccodec.evaluation import monotone, ranks, tiling
from pccodec.evaluation.command import command


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (0, 0), (1, 1)])
def test_a_command_returns_its_own_code(returned: int | None, code: int) -> None:
    seen = []

    @command
    def main(arguments: list[str] | None = None) -> int | None:
        """What it does."""
        seen.append(arguments)
        return returned

    assert main(["a"]) == code and main() == code
    assert seen == [["a"], None]
    assert main.__doc__ == "What it does."


@pytest.mark.parametrize("kind", [errors.PccodecError, errors.InputError, errors.ModelError])
def test_an_error_is_one_line_and_its_code(
    kind: type[errors.PccodecError], capsys: pytest.CaptureFixture[str]
) -> None:
    @command
    def main() -> None:
        raise kind("what is wrong")

    assert main() == kind.exit_code > 0
    output = capsys.readouterr()
    assert (output.out, output.err) == ("", "pccodec: error: what is wrong\n")


def test_a_defect_is_not_hidden() -> None:
    @command
    def main() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        main()


def test_commands_name_a_missing_cloud(capsys: pytest.CaptureFixture[str]) -> None:
    assert monotone.main(["none.ply", "--json", "none.json"]) == errors.InputError.exit_code
    assert ranks.main(["none.ply"]) == errors.InputError.exit_code
    assert tiling.main(["--cloud", "none.ply", "--tile-level", "5"]) == errors.InputError.exit_code
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3 and all(
        line.startswith("pccodec: error: ") and "none.ply" in line for line in lines
    )
