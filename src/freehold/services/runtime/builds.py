"""From a version's document to a build, and from what was built to what the version records."""

from pathlib import Path
from typing import Any

from freehold.services.runtime.build import Builder, BuildFailed, BuildRequest
from freehold.services.runtime.ports import BuildRefused, Built


class BundleBuilder:
    """Implements `ports.RuntimeBuilder` for code bundles. `root` is the builder's own."""

    def __init__(self, builder: Builder, *, root: Path, fallback: bool) -> None:
        self._builder, self._root, self._fallback = builder, root, fallback

    async def build(self, tenant: str, document: dict[str, Any], build_id: str) -> Built:
        code = document["agentRuntimeArtifact"]["codeConfiguration"]
        location = code["code"]["s3"]
        request = BuildRequest(
            id=build_id,
            tenant=tenant,
            bucket=location["bucket"],
            key=location["prefix"],
            runtime=code["runtime"],
            entry_point=tuple(code["entryPoint"]),
            fallback=self._fallback,
        )
        try:
            result = await self._builder.build(request)
        except BuildFailed as error:
            raise BuildRefused(str(error)) from error
        layers = [result.layer_dir] if result.layer_dir is not None else []
        return Built(
            code=str(result.code_dir.relative_to(self._root)),
            layers=tuple(str(layer.relative_to(self._root)) for layer in layers),
            interpreter=result.interpreter,
        )
