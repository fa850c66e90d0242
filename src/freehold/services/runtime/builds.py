"""From a version's document to a build, and from what was built to what the version records."""

from pathlib import Path
from typing import Any

from freehold.services.runtime.build import Builder, BuildFailed, BuildRequest, ImageBuilder
from freehold.services.runtime.ports import BuildRefused, Built


class ArtifactBuilder:
    """Implements `ports.RuntimeBuilder`. `root` is the builders' own."""

    def __init__(
        self, builder: Builder, images: ImageBuilder, *, root: Path, fallback: bool
    ) -> None:
        self._builder, self._images = builder, images
        self._root, self._fallback = root, fallback

    async def build(self, tenant: str, document: dict[str, Any], build_id: str) -> Built:
        artifact = document["agentRuntimeArtifact"]
        if "containerConfiguration" in artifact:
            return await self._image(artifact["containerConfiguration"]["containerUri"], build_id)
        return await self._bundle(tenant, artifact["codeConfiguration"], build_id)

    async def _image(self, uri: str, build_id: str) -> Built:
        try:
            image = await self._images.build(uri, build_id)
        except BuildFailed as error:
            raise BuildRefused(str(error)) from error
        return Built(image=str(image.folder.relative_to(self._root)))

    async def _bundle(self, tenant: str, code: dict[str, Any], build_id: str) -> Built:
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
