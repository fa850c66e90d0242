"""A Smithy model as tools, with nothing asked of anybody."""

import re

from freehold.adapters.targets.smithy import plan as plans
from freehold.adapters.targets.smithy.endpoints import located
from freehold.adapters.targets.smithy.model import Json, Model, Unusable, target
from freehold.adapters.targets.smithy.planning import Operation, Planner
from freehold.adapters.targets.smithy.schema import input_schema, output_schema
from freehold.adapters.targets.smithy.service import (
    Service,
    annotations,
    description,
    only_service,
    plain,
)
from freehold.kernel.errors import ValidationFailed
from freehold.ports.targets import Definition, Described, Problem

TOOLS_MAX = 1000
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")


def convert(
    text: str, *, region: str = "", endpoint: str = "", tools_max: int = TOOLS_MAX
) -> Described:
    """Raises ValidationFailed for a document that is no Smithy model of one service."""
    model = Model(text)
    service = only_service(model)
    problems: list[Problem] = []
    where = _pointer(service.shape.id)
    if not service.protocol and not _assume_protocol(model, service, problems, where):
        why = service.protocol_missing or "none"
        problems.append(
            Problem(
                where=where,
                why=f"The service's protocols are not spoken here: {why}. Add one of restJson1,"
                " awsJson1_0, awsJson1_1, restXml, awsQuery or ec2Query of aws.protocols.",
            )
        )
        return Described(problems=tuple(problems), server=_server(service, region, endpoint))
    planner = Planner(model, service)
    definitions: dict[str, Definition] = {}
    for name in service.operations:
        if len(definitions) >= tools_max:
            problems.append(
                Problem(
                    where=_pointer(name),
                    why=f"A target has {tools_max} tools at most: leave operations out of the"
                    " service.",
                )
            )
            break
        try:
            definition, restrictions = _tool(model, service, planner, name)
            if definition.name in definitions:
                raise Unusable(f"another operation is called {definition.name} too")
            definitions[definition.name] = definition
            problems += [
                Problem(where=_pointer(name), why=_sentence(why), skipped=False)
                for why in restrictions
            ]
        except Unusable as error:
            problems.append(Problem(where=_pointer(name), why=_sentence(str(error))))
    return Described(
        definitions=tuple(definitions.values()),
        problems=tuple(problems),
        server=_server(service, region, endpoint),
    )


def _assume_protocol(model: Model, service: Service, problems: list[Problem], where: str) -> bool:
    """Models for documentation name no protocol at all; with HTTP bindings there is one to take."""
    if service.protocol_missing:
        return False
    try:
        if not any("http" in model.shape(name).traits for name in service.operations):
            return False
    except Unusable:
        return False
    service.protocol = "restJson1"
    problems.append(
        Problem(
            where=where,
            why="The service names no protocol: aws.protocols#restJson1 is taken.",
            skipped=False,
        )
    )
    return True


def _tool(
    model: Model, service: Service, planner: Planner, name: str
) -> tuple[Definition, list[str]]:
    """Raises Unusable."""
    shape = model.shape(name)
    if shape.type != "operation":
        raise Unusable(f"it is of type {shape.type[:40]}, and no operation")
    if not _NAME.fullmatch(shape.name):
        raise Unusable("its name has to be letters, digits and _, and of 128 characters at most")
    if "internal" in shape.traits:
        raise Unusable("it is internal to the service")
    operation = Operation(
        shape=shape,
        input=model.shape(target(shape, "input")),
        output=model.shape(target(shape, "output")),
        restrictions=[],
    )
    taken = input_schema(model, operation.input)
    plan = planner.plan(operation)
    document: Json = {
        "name": shape.name,
        "description": description(shape, service),
        "inputSchema": taken,
    }
    if operation.output.members:
        answered = output_schema(model, operation.output)
        if answered is not None:
            document["outputSchema"] = answered
    document["annotations"] = annotations(
        shape, plan.method if plan.labels or "http" in shape.traits else "",
        has_token=bool(plan.tokens),
    )  # fmt: skip
    definition = Definition(name=shape.name, document=document, plan=plans.stored(plan))
    return definition, operation.restrictions


def _server(service: Service, region: str, endpoint: str) -> Json:
    try:
        title = service.traits.text("title")
        documentation = service.traits.text("documentation")
    except Unusable as error:
        raise ValidationFailed(f"The service cannot be read: {error}.") from None
    version = service.shape.node.get("version")
    return {
        "service": service.shape.id,
        "title": plain(title, characters_max=200) or service.shape.name,
        "documentation": plain(documentation, characters_max=500),
        "version": version if isinstance(version, str) else "",
        "protocol": service.protocol,
        **located(service.traits, region=region, configured=endpoint),
    }


def _pointer(shape_id: str) -> str:
    return "/shapes/" + shape_id.replace("~", "~0").replace("/", "~1")


def _sentence(why: str) -> str:
    return f"{why[:1].upper()}{why[1:]}."
