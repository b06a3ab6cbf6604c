"""The log for anyone's tools: whether an asker takes gzip."""

import pytest

from hub.doors.tlog import takes_gzip


@pytest.mark.parametrize(
    "accepted",
    [
        "gzip",
        "gzip, deflate",
        "identity,GZIP",
        "br;q=1.0, gzip;q=0.8, *;q=0.1",
        "gzip; q=1",
        "x-gzip",
    ],
)
def test_gzip_is_given_to_whoever_names_it(accepted):
    assert takes_gzip(accepted)


@pytest.mark.parametrize(
    "accepted",
    [
        "",
        "identity",
        "*",
        "br",
        "gzip;q=0",
        "gzip; q=0.000",
        "gzip2",
        "notgzip",
        "gzip;q=x",
        "br;gzip",
    ],
)
def test_gzip_is_not_given_to_whoever_does_not_name_it_or_forbids_it(accepted):
    assert not takes_gzip(accepted)
