"""Options of `prepare` that would change nothing are refused."""

import pytest

from data_prep.__main__ import OWN, Prepare, conversion
from poyo_jax.data.importers.nwb_session import NwbOptions
from poyo_jax.errors import ConfigError


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("perich_miller_population_2018", {"nwb": NwbOptions(target="a")}, "--target is for"),
        (
            "perich_miller_population_2018",
            {"nwb": NwbOptions(target="", max_speed=1.0)},
            "--max-speed is for `prepare nwb`",
        ),
        ("perich_miller_population_2018", {"waveforms": False}, "--no-waveforms is for odoherty"),
        (OWN, {"nwb": NwbOptions(target="a"), "waveforms": False}, "--no-waveforms is for odoher"),
    ],
)
def test_options_of_other_data_sets(name, options, told, tmp_path):
    (tmp_path / "sub-C_ses-CO-20131003_behavior+ecephys.nwb").touch()
    with pytest.raises(ConfigError, match=told):
        conversion(Prepare(name=name, raw=tmp_path, out=tmp_path, **options))
