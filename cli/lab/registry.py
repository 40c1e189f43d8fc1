"""Names of images in the lab's registry, which stands in for Docker Hub on the lab's nodes."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.errors import UserError

# docker's own manifests, lists of them, and OCI's
_MANIFESTS = ", ".join(
    [
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.oci.image.index.v1+json",
    ]
)
_HUB = ("docker.io/", "index.docker.io/")


@dataclass(frozen=True, slots=True)
class Image:
    """An image by its full name on Docker Hub: `library/debian` and `bookworm-slim`."""

    repository: str
    tag: str

    def at(self, registry: str) -> str:
        return f"{registry}/{self.repository}:{self.tag}"


def parse_image(name: str, registry: str) -> Image:
    """Where the image called `name` is in the lab's registry, from which nodes get what Docker Hub would have."""
    rest = name
    for prefix in (*_HUB, f"{registry}/"):
        rest = rest.removeprefix(prefix)
    host, slash, _ = rest.partition("/")
    if slash and ("." in host or ":" in host or host == "localhost"):
        raise UserError(
            f"the image {name} belongs to the registry {host}, which the lab cannot stand in for",
            hint=f"Name it without a registry, like {rest.partition('/')[2]}, and build it with `stack lab build`.",
        )
    if "@" in rest:
        raise UserError(f"the image {name} is named by digest, so it cannot be built", hint="Name it with a tag.")
    repository, _, tag = rest.partition(":")
    return Image(repository if "/" in repository else f"library/{repository}", tag or "latest")


def digest(registry: str, image: Image) -> str | None:
    """The digest under which the registry has the image now, None if it has none."""
    from http.client import HTTPConnection

    connection = HTTPConnection(registry, timeout=10)
    try:
        connection.request("HEAD", f"/v2/{image.repository}/manifests/{image.tag}", headers={"Accept": _MANIFESTS})
        answer = connection.getresponse()
        return answer.headers.get("Docker-Content-Digest") if answer.status == 200 else None
    finally:
        connection.close()
