"""Convert raw recordings to sessions.

    $ python -m data_prep list
    $ python -m data_prep download NAME --raw raw/
    $ python -m data_prep prepare NAME --raw raw/ --out sessions/
    $ python -m data_prep prepare nwb --raw mine/ --out sessions/ --target PATH
    $ python -m data_prep check sessions/ --report check.html
    $ python -m data_prep inspect FILE

`list` shows the data sets, their archives and sizes. `download` fetches and verifies raw files.
`prepare` converts them; the same command continues a stopped conversion. `check` finds errors in
sessions. `inspect` lists the content of an NWB file or a session.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated

import tyro

from data_prep.catalogue import all_entries, find_entry
from poyo_jax import Session
from poyo_jax.cli.options import Folder, MaybePath
from poyo_jax.cli.program import run_command
from poyo_jax.data.importers.nwb_session import NwbOptions
from poyo_jax.errors import ConfigError, DataError
from poyo_jax.exit_status import MISUSED
from poyo_jax.words import counted

OWN = "nwb"
WITH_WAVEFORMS = "odoherty_sabes_nonhuman_2017"
NO_NWB = NwbOptions(target="")


@dataclass(frozen=True)
class List:
    """The data sets: archive, licence, raw files and sizes."""


@dataclass(frozen=True, kw_only=True)
class Download:
    """Fetch and verify the raw files of a data set; the same command continues a stopped one."""

    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME")]
    """Data set, as `list` calls it."""
    raw: Path
    """Folder for the raw files."""
    file: tuple[str, ...] = ()
    """Fetch only files that fit one of these patterns, for example 'sub-C_*'."""


@dataclass(frozen=True, kw_only=True)
class Prepare:
    """Convert raw files to sessions; the same command continues a stopped conversion."""

    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME")]
    """Data set, as `list` calls it, or nwb for a lab's own NWB files."""
    raw: Path
    """Folder with raw files, searched with its sub-folders."""
    out: Path
    """Folder for the sessions."""
    workers: int = 2
    """Files converted at the same time; each may need as much memory as four times its size."""
    compress: bool = False
    """Compress the sessions: about half the size, but slow to read while training."""
    waveforms: bool = True
    """Keep the waveforms of odoherty_sabes_nonhuman_2017, as the reference does; nothing here uses
    them.
    """
    nwb: tyro.conf.OmitArgPrefixes[NwbOptions] = field(default_factory=lambda: NO_NWB)
    """Options for a lab's own NWB files."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """Check every session of a folder, and print a table of the findings."""

    folder: Folder
    """Folder with session files, searched with its sub-folders."""
    report: MaybePath = None
    """HTML page to write, with rasters, velocities and splits."""


@dataclass(frozen=True, kw_only=True)
class Inspect:
    """List the content of an NWB file or a session: units, behaviour, trials, splits."""

    file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE")]
    """NWB file (.nwb) or session (.h5)."""


Command = (
    Annotated[List, tyro.conf.subcommand("list")]
    | Annotated[Download, tyro.conf.subcommand("download")]
    | Annotated[Prepare, tyro.conf.subcommand("prepare")]
    | Annotated[Check, tyro.conf.subcommand("check")]
    | Annotated[Inspect, tyro.conf.subcommand("inspect")]
)


def main(arguments: list[str] | None = None) -> None:
    actions: dict[type, Callable[..., int]] = {
        List: show_list,
        Download: download,
        Prepare: prepare,
        Check: check,
        Inspect: inspect,
    }
    run_command(
        lambda command: actions[type(command)](command),
        Command,
        arguments,
        prog="python -m data_prep",
        description=__doc__,
        interrupted="stopped; what is finished is kept, and the same command continues.",
    )


def show_list(_: List) -> int:
    for data_set in all_entries().values():
        print(f"{data_set.name}\n    {data_set.title}")
        print(f"    {data_set.archive}; licence: {data_set.licence}")
        sizes = (
            f"about {data_set.raw_gigabytes:g} GB raw, {data_set.processed_gigabytes:g} GB prepared"
        )
        print(f"    {counted(data_set.num_files, 'file')}, {sizes}")
    print(
        f"{OWN}\n    a lab's own NWB files: `python -m data_prep inspect FILE` lists what can be"
        " decoded"
    )
    return 0


def download(options: Download) -> int:
    from data_prep.download import download, plan

    data_set = find_entry(options.name)
    planned = plan(data_set, options.raw, options.file)
    print(planned, flush=True)
    download(planned)
    print(
        f"all there; next: python -m data_prep prepare {data_set.name} --raw {options.raw} --out"
        " sessions/"
    )
    return 0


def prepare(options: Prepare) -> int:
    from data_prep.prepare import Job, prepare, recipe
    from data_prep.table import results_table

    if options.workers < 1:
        raise ConfigError(f"--workers is {options.workers}; it must be at least 1.")
    if not options.raw.is_dir():
        raise DataError(
            f"the folder {options.raw} does not exist; --raw is the folder with the raw files."
        )
    convert, files = conversion(options)
    settings = {
        "waveforms": options.waveforms,
        "compress": options.compress,
        "nwb": asdict(options.nwb),
    }
    job = Job(options.name, convert, options.out, recipe(**settings), options.compress)
    results = prepare(job, files, min(options.workers, len(files)))
    print(results_table(results))
    return MISUSED if any(result.skipped for result in results) else 0


def conversion(options: Prepare) -> tuple[Callable[[Path], Session], list[Path]]:
    """Return the function that converts the raw files, and the paths of these files."""
    if options.name == OWN:
        return _own_conversion(options)
    given, nothing = asdict(options.nwb), asdict(NO_NWB)
    others = [name for name in given if given[name] != nothing[name]]
    if others:
        name = f"--{others[0].replace('_', '-')}"
        raise ConfigError(
            f"{name} is for `prepare {OWN}`; {options.name} is prepared as its paper says. Leave it"
            " out."
        )
    data_set = find_entry(options.name)
    if not (files := data_set.find(options.raw)):
        raise DataError(
            f"{options.raw} has no raw files of {data_set.name} ({', '.join(data_set.raw_files)}). "
            f"`python -m data_prep download {data_set.name} --raw {options.raw}` fetches them."
        )
    if options.waveforms:
        return data_set.convert, files
    if options.name != WITH_WAVEFORMS:
        raise ConfigError(
            f"--no-waveforms is for {WITH_WAVEFORMS}; the sessions of {options.name} have none."
        )
    return partial(data_set.convert, waveforms=False), files


def _own_conversion(options: Prepare) -> tuple[Callable[[Path], Session], list[Path]]:
    from data_prep.nwb import converter

    if not (files := sorted(options.raw.rglob("*.nwb"))):
        raise DataError(
            f"{options.raw} has no NWB files (*.nwb); --raw is the folder with the raw files."
        )
    if not options.waveforms:
        raise ConfigError(f"--no-waveforms is for {WITH_WAVEFORMS}. Leave it out.")
    if not options.nwb.target:
        raise ConfigError(
            "--target is missing: which behaviour shall be decoded? "
            f"`python -m data_prep inspect {files[0]}` lists what there is."
        )
    return converter(options.nwb), files


def check(options: Check) -> int:
    from data_prep.check import check_folder, has_errors
    from data_prep.check_table import table

    checks = check_folder(options.folder)
    print(table(checks))
    if options.report:
        from data_prep.check_report import write_report

        write_report(checks, options.report)
        print(f"report: {options.report}")
    return MISUSED if has_errors(checks) else 0


def inspect(options: Inspect) -> int:
    from poyo_jax.data.describe import describe

    print(describe(options.file))
    return 0


if __name__ == "__main__":
    main()
