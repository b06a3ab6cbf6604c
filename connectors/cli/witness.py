"""``nhri-connector witness`` and ``policy``: what we cosign with, and whom others can believe."""

import click

from connectors import keys
from connectors.cli.options import examples
from connectors.cli.outcome import NotSo
from connectors.cli.output import print_json, say
from connectors.cli.site import Site, on_site
from schemas import cosignature
from schemas import policy as policies


@click.command(
    epilog=examples(
        "nhri-connector witness --config kz.toml",
        "nhri-connector witness --add-ml-dsa-44 --config kz.toml",
    )
)
@click.option(
    "--add-ml-dsa-44",
    "second",
    is_flag=True,
    help="Make a second key, for cosignatures that hold against quantum computers.",
)
@on_site
def witness(site: Site, second: bool) -> None:
    """Show the keys that the hub's log is cosigned with, and how far it is cosigned.

    The first key was registered at joining. A second one counts where the hub's policy names it:
    give the hub's operator its line. The daemon takes it up when it is started again.
    """
    if second:
        keys.make_second_witness(site.config.keys)
    name = cosignature.witness_name(site.config.log_key.name, site.code)
    vkeys = [str(cosignature.vkey_of(name, key)) for key in keys.witnesses(site.config.keys)]
    reader, cosigned = site.glance(), None
    if reader is not None:
        with reader:
            cosigned = reader.cosigned()
    size = cosigned.size if cosigned else 0
    if site.as_json:
        print_json({"cosigned": size, "vkeys": [*vkeys]})
        return
    say(f"{size} entries of the log are cosigned, with:")
    for vkey in vkeys:
        say(vkey)


@click.command(epilog=examples("nhri-connector policy --config kz.toml > region.policy"))
@on_site
def policy(site: Site) -> None:
    """Print the region's quorum as a file of C2SP tlog-policy, for whoever verifies offline.

    The witness keys are those of the directory as it was followed and verified here. Nobody's word
    is needed for it; the hub's least of all. Ends with 1 while there are too few witnesses.
    """
    log = site.config.log_key
    with site.reader() as reader:
        found = policies.witnesses(log.name, reader.directory())
    text = policies.regional(log, found)
    if text is None:
        raise NotSo("Fewer than four countries have a witness: there can be no quorum yet.")
    if site.as_json:
        print_json({"policy": text})
    else:
        click.echo(text, nl=False)
