"""Which addresses are for webhooks, and which spellings of a URL are taken."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.delivery import addresses
from hub.delivery.addresses import SPECIAL, Allowed, check_url, forbidden
from schemas.refusal import Refused
from tests.forms import FORMS

NOTHING_MORE = Allowed()
INTRANET = Allowed(
    networks=(ip_network("10.7.0.0/16"), ip_network("fd12::/48")),
    hosts=frozenset({"desk", "10.7.0.1", "desk.corp"}),
    ports=frozenset({443, 9000}),
)

v4 = st.ip_addresses(v=4)


def inside(prefix, address, shift=0):
    """An IPv6 address that carries an IPv4 address so many bits from its end."""
    return IPv6Address(int(IPv6Address(prefix)) | int(address) << shift)


class TestAnAddress:
    @pytest.mark.parametrize("network", SPECIAL, ids=str)
    def test_of_a_special_network_is_forbidden_from_its_first_to_its_last(self, network):
        assert forbidden(network[0], NOTHING_MORE) == SPECIAL[network]
        assert forbidden(network[-1], NOTHING_MORE) == SPECIAL[network]

    @pytest.mark.parametrize(
        "text",
        [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.167.255.255",
            "223.255.255.255",
            "2000::",
            "2001:200::",
            "2606:4700::1111",
            "2a00:1450::1",
            "3fff:1000::",
        ],
    )
    def test_beside_them_is_not(self, text):
        assert forbidden(ip_address(text), NOTHING_MORE) is None

    @pytest.mark.parametrize(
        "text",
        [
            "::",
            "::1",
            "::2",
            "100::1",
            "1fff::",
            "4000::",
            "5f00::1",
            "fc00::1",
            "fd00::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "ff0e::1",
            "64:ff9b:1::808:808",
            "8000::",
        ],
    )
    def test_that_is_not_assigned_to_the_world_is_forbidden(self, text):
        assert forbidden(ip_address(text), NOTHING_MORE) == "not assigned to the world (RFC 4291)"

    @given(st.ip_addresses())
    def test_that_python_knows_as_not_global_is_forbidden(self, address):
        if not address.is_global:
            assert forbidden(address, NOTHING_MORE) is not None

    @given(v4)
    @pytest.mark.parametrize("prefix", ["::ffff:0:0", "64:ff9b::"])
    def test_that_is_delivered_to_the_one_it_carries_counts_as_that_one(self, prefix, address):
        outer = inside(prefix, address)
        assert forbidden(outer, NOTHING_MORE) == forbidden(address, NOTHING_MORE)
        everywhere = Allowed(networks=(ip_network("0.0.0.0/0"),))
        assert forbidden(outer, everywhere) is None

    @given(v4)
    @pytest.mark.parametrize(
        ("prefix", "shift"),
        [("::", 0), ("::ffff:0:0:0", 0), ("64:ff9b:1::", 0), ("2002::", 80), ("2001::", 64)],
    )
    def test_that_carries_one_otherwise_is_forbidden_whatever_it_is(self, prefix, shift, address):
        assert forbidden(inside(prefix, address, shift), NOTHING_MORE) is not None

    @given(v4)
    @pytest.mark.parametrize("prefix", ["2a00::5efe:0:0", "2a00::200:5efe:0:0"])
    def test_of_isatap_is_judged_by_both(self, prefix, address):
        outer = inside(prefix, address)
        assert forbidden(outer, NOTHING_MORE) == forbidden(address, NOTHING_MORE)

    def test_with_a_zone_is_forbidden(self):
        assert "interface" in str(forbidden(IPv6Address("2606:4700::1111%eth0"), INTRANET))

    @pytest.mark.parametrize("text", ["10.7.0.1", "::ffff:10.7.9.9", "64:ff9b::a07:1", "fd12::7"])
    def test_of_a_network_that_the_operator_allows_is_allowed(self, text):
        assert forbidden(ip_address(text), INTRANET) is None

    @pytest.mark.parametrize("text", ["10.8.0.1", "127.0.0.1", "fd13::7", "2002:a07:1::"])
    def test_beside_it_is_not_allowed(self, text):
        assert forbidden(ip_address(text), INTRANET) is not None


class TestAUrl:
    @pytest.mark.parametrize("host", FORMS)
    def test_that_leads_inside_is_refused(self, host):
        with pytest.raises(Refused) as refused:
            check_url(f"https://{host}/hook", NOTHING_MORE)
        assert (refused.value.code, refused.value.path) == ("bad-request", "$.url")
        assert refused.value.detail.endswith(".")

    @pytest.mark.parametrize(
        ("url", "canonical"),
        [
            ("https://example.org", "https://example.org/"),
            ("HTTPS://EXAMPLE.org.:443/Hook?a=%D0%B6&b", "https://example.org/Hook?a=%D0%B6&b"),
            ("https://example.org:8443?x", "https://example.org:8443/?x"),
            ("https://пример.рф/", "https://xn--e1afmkfd.xn--p1ai/"),
            ("https://ｅxample。org/", "https://example.org/"),
            ("https://1.1.1.1/a/../b", "https://1.1.1.1/a/../b"),
            ("https://[2606:4700:0::1111]/", "https://[2606:4700::1111]/"),
            ("https://[64:ff9b::1.1.1.1]/", "https://[64:ff9b::101:101]/"),
        ],
    )
    def test_is_spelt_in_one_way(self, url, canonical):
        taken = check_url(url, NOTHING_MORE)
        assert taken.url == canonical
        assert check_url(taken.url, NOTHING_MORE) == taken

    @pytest.mark.parametrize(
        ("url", "detail"),
        [
            ("", "whole URL"),
            ("example.org", "whole URL"),
            ("//example.org/", "whole URL"),
            ("https:/example.org/", "whole URL"),
            ("https:example.org", "whole URL"),
            ("https://example.org/" + "a" * 2000, "2000 characters"),
            ("http://example.org/", "begins with https"),
            ("ftp://example.org/", "begins with https"),
            ("gopher://example.org/", "begins with https"),
            ("https://kz:secret@example.org/", "no user and password"),
            ("https://example.org@10.0.0.1/", "no user and password"),
            ("https://example.org\\@10.0.0.1/", "no user and password"),
            ("https://example.org:22/", "one of 443, 8443"),
            ("https://example.org:80/", "one of 443, 8443"),
            ("https://example.org:0/", "one of 443, 8443"),
            ("https://example.org:443:22/", "host or host:port"),
            ("https://example.org:/", "host or host:port"),
            ("https://example.org:4４3/", "host or host:port"),
            ("https://[::1/", "host or host:port"),
            ("https://[1.1.1.1]/", "not an IPv6 address"),
            ("https://example.org/#part", "fragment"),
            ("https://example.org/a b", "Percent-encode"),
            ("https://example.org/\r\nX: y", "whole URL"),
            ("https://example.org/é", "Percent-encode"),
            ("https:///", "not a name"),
            ("https://exa mple.org/", "not a name"),
            ("https://exa%6dple.org/", "not a name"),
            ("https://example..org/", "not a name"),
            ("https://-a.org/", "not a name"),
            ("https://a_b.org/", "not a name"),
            ("https://example.org\x00/", "not a name"),
            ("https://" + "a" * 64 + ".org/", "not a name"),
            ("https://" + "a." * 127 + "org/", "not a name"),
            ("https://straße.de/", "in ASCII"),
            ("https://1.1.1/", "four decimal numbers"),
            ("https://16843009/", "four decimal numbers"),
            ("https://1.1.1.0x1/", "four decimal numbers"),
            ("https://example.org.1/", "four decimal numbers"),
        ],
    )
    def test_that_could_be_read_in_two_ways_is_refused_with_what_to_write(self, url, detail):
        with pytest.raises(Refused, match=detail):
            check_url(url, NOTHING_MORE)

    @given(st.text())
    def test_is_taken_or_refused_whatever_stands_there(self, text):
        for url in (text, f"https://{text}", f"https://{text}/", f"https://example.org{text}"):
            try:
                taken = check_url(url, NOTHING_MORE)
            except Refused:
                continue
            assert check_url(taken.url, NOTHING_MORE) == taken
            assert taken.url.isascii()

    @pytest.mark.parametrize(
        "url",
        [
            "https://desk/",
            "http://desk/",
            "http://desk:9000/",
            "https://desk.corp:9000/",
            "http://10.7.0.1:9000/",
            "https://10.7.0.2/",
            "https://[fd12::1]/",
        ],
    )
    def test_of_an_intranet_is_taken_where_the_operator_allows_it(self, url):
        assert check_url(url, INTRANET).url == url

    @pytest.mark.parametrize(
        "url",
        [
            "http://10.7.0.2/",
            "https://desk2/",
            "https://mail.corp/",
            "https://desk:8443/",
            "http://desk:22/",
            "https://10.8.0.1/",
            "http://example.org/",
        ],
    )
    def test_of_an_intranet_is_refused_otherwise(self, url):
        with pytest.raises(Refused):
            check_url(url, INTRANET)


def test_there_are_more_forms_than_thirty():
    assert len(FORMS) >= 30


def test_an_address_is_carried_only_where_the_network_delivers_it_there():
    mapped, plain = IPv6Address("::ffff:1.1.1.1"), IPv6Address("2002:101:101::")
    assert addresses.carried(mapped) == IPv4Address("1.1.1.1")
    assert addresses.carried(plain) == plain
