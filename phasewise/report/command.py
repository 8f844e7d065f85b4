"""The command line of ``report.py`` and ``python -m phasewise.report``.

Exit codes: 0 written, 2 refused, 130 interrupted by Ctrl-C, 143 by SIGTERM.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from phasewise.errors import UserError, say


def main(argv: Sequence[str] | None = None, program: str = "report.py") -> NoReturn:
    """Parse, write, exit.

    Args:
        argv: the words; None takes them from ``sys.argv``.
        program: what was called, for messages.
    """
    args = _parser(program).parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # drafts of files are removed
    if args.watch:  # ends by no other way; a script's `&` and `nohup` have Ctrl-C ignored
        signal.signal(signal.SIGINT, signal.default_int_handler)
    logging.basicConfig(format="%(message)s", level=logging.ERROR)  # the page tells what is wrong
    try:
        _run(args)
    except UserError as error:
        print(f"{program}: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)


def _parser(program: str = "report.py") -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program,
        description="Writes report.html, report.md, tables/ and figures/ of a study or sweep.",
        epilog="With a second directory, compares the two studies.",
    )
    parser.add_argument("study", type=Path, help="directory of a study or sweep, in any state")
    parser.add_argument("other", type=Path, nargs="?", help="a second one to compare it with")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="where the report goes (default: into the study's directory; a comparison into "
        "STUDY/compare_OTHER)",
    )
    parser.add_argument(
        "--format",
        type=_words,
        default=[],
        metavar="docx,pdf",
        help="write report.docx, report.pdf or both beside them",
    )
    parser.add_argument(
        "--sections",
        type=_words,
        default=[],
        metavar="TITLE,TITLE",
        help='show these only, e.g. "Summary,Audit,Phase 2"',
    )
    parser.add_argument(
        "--propose",
        nargs="?",
        const="",
        metavar="FOLDER",
        help="write no report, but a study's file that asks what this one has left open, into "
        "STUDY/proposals or FOLDER, and print the command that runs it",
    )
    parser.add_argument(
        "--watch", action="store_true", help="write it again whenever something has changed"
    )
    return parser


def _words(text: str) -> list[str]:
    """What commas separate, each once."""
    return [*dict.fromkeys(word.strip() for word in text.split(","))]


def _propose(args: argparse.Namespace) -> None:
    from phasewise.report.proposals import write_proposals

    given = {"OTHER": args.other, "--output": args.output, "--watch": args.watch}
    given |= {"--format": args.format, "--sections": args.sections}
    if wrong := [name for name, value in given.items() if value]:
        raise UserError(f"--propose writes no report: it goes without {', '.join(wrong)}")
    say(write_proposals(args.study, Path(args.propose) if args.propose else None))


def _run(args: argparse.Namespace) -> None:
    if args.propose is not None:
        _propose(args)
        return
    from phasewise.report.formats import check_formats
    from phasewise.report.report import write_comparison, write_report
    from phasewise.report.watch import REFRESH, watch

    check_formats(args.format)
    wanted: dict[str, Any] = {
        "refresh": REFRESH if args.watch else None,
        "formats": args.format,
        "sections": args.sections,
    }

    def write() -> None:
        if args.other is None:
            page = write_report(args.study, args.output, **wanted)
        else:
            page = write_comparison(args.study, args.other, args.output, **wanted)
        say(str(page))

    # no window is opened; asked for one, matplotlib imports pyplot only to find out which
    os.environ.setdefault("MPLBACKEND", "agg")
    if args.watch:
        watch([args.study, *([args.other] if args.other else [])], write)
    else:
        gc.disable()  # nearly all lives until the end; searching for the rest is a tenth of all
        write()
