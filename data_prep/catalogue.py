"""The data sets that can be prepared: where each comes from, how large it is, and what converts its
raw files.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from poyo_jax import Session
from poyo_jax.errors import DataError, suggest


@dataclass(frozen=True)
class Dandiset:
    """A published version of a set in the DANDI archive; drafts change, so they are never taken."""

    id: str
    version: str

    def __str__(self) -> str:
        return f"DANDI {self.id}, version {self.version}"


@dataclass(frozen=True)
class ZenodoRecord:
    """A record of Zenodo, of which the files with these endings are taken."""

    id: str
    endings: tuple[str, ...]

    def __str__(self) -> str:
        return f"Zenodo record {self.id}"


@dataclass(frozen=True)
class Form:
    """A site that asks for a form; its files must be fetched by hand."""

    url: str
    files: tuple[str, ...]

    def __str__(self) -> str:
        return f"by hand, {self.url}"


@dataclass(frozen=True)
class DataSet:
    """One entry of the catalogue; `module` has `convert(path: Path) -> Session`."""

    name: str
    title: str
    archive: Dandiset | ZenodoRecord | Form
    licence: str
    module: str
    raw_files: tuple[str, ...]  # patterns of file names
    num_files: int
    raw_gigabytes: float
    processed_gigabytes: float

    def find(self, folder: Path) -> list[Path]:
        """Raw files in a folder and below, in the order of their names."""
        found = {
            path for pattern in self.raw_files for path in folder.rglob(pattern) if path.is_file()
        }
        return sorted(found, key=lambda path: (path.name, str(path)))

    @property
    def convert(self) -> Callable[..., Session]:
        return importlib.import_module(f"data_prep.{self.module}").convert


def _maze(size: str, dandiset: str, version: str, gigabytes: float) -> DataSet:
    return DataSet(
        name=f"nlb_mc_maze_{size}",
        title=f"Neural Latents Benchmark, MC_Maze {size}: monkey Jenkins, maze reaches",
        archive=Dandiset(dandiset, version),
        licence="CC-BY-4.0",
        module="nlb_mc_maze",
        raw_files=(f"sub-Jenkins_ses-{size}_desc-*.nwb",),
        num_files=2,
        raw_gigabytes=gigabytes,
        processed_gigabytes=gigabytes,
    )


DATA_SETS: dict[str, DataSet] = {
    data_set.name: data_set
    for data_set in (
        DataSet(
            name="perich_miller_population_2018",
            title="Perich, Miller et al.: monkeys C, J, M, T, centre-out and random targets",
            archive=Dandiset("000688", "0.250122.1735"),
            licence="CC-BY-4.0",
            module="perich_miller_population_2018",
            raw_files=("sub-*_ses-CO-*.nwb", "sub-*_ses-RT-*.nwb"),
            num_files=111,
            raw_gigabytes=13.0,
            processed_gigabytes=2.9,
        ),
        DataSet(
            name="churchland_shenoy_neural_2012",
            title="Churchland, Shenoy et al.: monkeys Jenkins and Nitschke, maze reaches",
            archive=Dandiset("000070", "0.251218.1714"),
            licence="CC-BY-4.0",
            module="churchland_shenoy_neural_2012",
            raw_files=("sub-Jenkins_ses-2*.nwb", "sub-Nitschke_ses-2*.nwb"),
            num_files=10,
            raw_gigabytes=46.0,
            processed_gigabytes=25.0,
        ),
        DataSet(
            name="odoherty_sabes_nonhuman_2017",
            title="O'Doherty, Makin, Sabes et al.: monkeys Indy and Loco, self-paced reaches",
            archive=ZenodoRecord("3854034", (".mat",)),
            licence="CC-BY-4.0",
            module="odoherty_sabes_nonhuman_2017",
            raw_files=("indy_*.mat", "loco_*.mat"),
            num_files=47,
            raw_gigabytes=22.0,
            processed_gigabytes=26.0,
        ),
        DataSet(
            name="flint_slutzky_accurate_2012",
            title="Flint, Slutzky et al.: monkey C, reaches in three dimensions",
            archive=Form(
                "https://portal.nersc.gov/project/crcns/download/dream/data_sets/Flint_2012",
                tuple(f"Flint_2012_e{number}.mat" for number in range(1, 6)),
            ),
            licence="site terms: scientific use, no redistribution",
            module="flint_slutzky_accurate_2012",
            raw_files=("Flint_2012_e*.mat",),
            num_files=5,
            raw_gigabytes=3.2,
            processed_gigabytes=0.15,
        ),
        _maze("full", "000128", "0.220113.0400", 0.69),
        _maze("large", "000138", "0.220113.0407", 0.15),
        _maze("medium", "000139", "0.220113.0408", 0.08),
        _maze("small", "000140", "0.220113.0408", 0.03),
        DataSet(
            name="nlb_mc_rtt",
            title=(
                "Neural Latents Benchmark, MC_RTT: monkey Indy, self-paced reaches of another day"
            ),
            archive=Dandiset("000129", "0.241017.1444"),
            licence="CC-BY-4.0",
            module="nlb_mc_rtt",
            raw_files=("sub-Indy_desc-*.nwb",),
            num_files=2,
            raw_gigabytes=0.05,
            processed_gigabytes=0.1,
        ),
    )
}


ALIASES = {"pei_pandarinath_nlb_2021": "nlb_mc_maze_small"}  # as brainsets calls it


def find_data_set(name: str) -> DataSet:
    """The data set with this name; raises DataError when there is none."""
    name = ALIASES.get(name, name)
    if name not in DATA_SETS:
        raise DataError(
            f"there is no data set {name!r}.{suggest(name, DATA_SETS)} `python -m data_prep list`"
            " shows them all."
        )
    return DATA_SETS[name]
