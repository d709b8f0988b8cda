"""`agent-streams acls`: the least rights a role needs at the brokers, ready for kafka-acls.sh or Strimzi.

Never asks a broker and never grants anything: it prints what whoever may do that runs.
"""

from enum import StrEnum
from typing import Annotated, Final

import typer

from streams.worker import acl
from streams.worker.cli.options import Bootstrap, Json, Prefix, load, print_json

EXAMPLES: Final = (
    "agent-streams acls --role worker --principal User:agent-worker",
    "agent-streams acls --role publisher --format strimzi --cluster main",
    "agent-streams acls --json",
)
_BROKER: Final = "BROKER:9092"  # shown where nobody has named one


class Format(StrEnum):
    """How rights are written."""

    KAFKA_ACLS = "kafka-acls"
    STRIMZI = "strimzi"


def acls(
    role: Annotated[
        list[str] | None,
        typer.Option(help=f"One of {', '.join(acl.ROLES)}. May be repeated.", show_default="all of them"),
    ] = None,
    principal: Annotated[
        str | None, typer.Option(help="Who is granted them.", show_default="User:agent-streams-ROLE")
    ] = None,
    style: Annotated[Format, typer.Option("--format", help="How to write them.")] = Format.KAFKA_ACLS,
    cluster: Annotated[str, typer.Option(help="Strimzi's name of the Kafka cluster.")] = "kafka",
    otlp_topic: Annotated[
        str | None,
        typer.Option(
            metavar="TOPIC", help="What `ingest-otlp --from-topic` reads, for the role ingest.", show_default=False
        ),
    ] = None,
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
    as_json: Json = False,
) -> None:
    """Print what each role may do and nothing more; a missing line is a refusal that names the topic or group."""
    settings = load(bootstrap, prefix)
    roles = role or list(acl.ROLES)
    found = {each: acl.rights(each, settings.topic_prefix, settings.app_id, otlp_topic) for each in roles}
    if as_json:
        print_json({each: [right.as_dict() for right in some] for each, some in found.items()})
        return
    for number, (each, some) in enumerate(found.items()):
        who = principal or f"User:agent-streams-{each}"
        if style is Format.STRIMZI:
            typer.echo(("---\n" if number else "") + acl.strimzi(who.partition(":")[2] or who, some, cluster), nl=False)
        else:
            typer.echo(f"# {each}")
            for line in acl.kafka_acls(who, some, settings.kafka_bootstrap_servers or _BROKER):
                typer.echo(line)
