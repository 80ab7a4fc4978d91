from __future__ import annotations

import pytest

from backend.errors import BadImage
from backend.label_studio.addresses import Addresses, image_address

PLAIN = Addresses("http://studio:8080")
SUB_PATH = Addresses("https://host/label-studio", "https://host/label-studio")
BESIDE = Addresses("http://studio:8080", "https://host/label-studio")
"""The backend goes round the proxy that takes the path away."""


@pytest.mark.parametrize("path", ["/label-studio/data/upload/1/a.png", "/data/upload/1/a.png"])
def test_the_prefix_of_a_sub_path_is_there_once(path: str) -> None:
    """The second was uploaded before there was a sub-path."""
    assert SUB_PATH.of_image(path, 7) == "https://host/label-studio/data/upload/1/a.png"
    assert BESIDE.of_image(path, 7) == "http://studio:8080/data/upload/1/a.png"
    assert PLAIN.of_image("data/upload/1/a.png", 7) == "http://studio:8080/data/upload/1/a.png"


@pytest.mark.parametrize(
    "url",
    [
        "https://host/label-studio/data/local-files/?d=a%20b.png",
        "http://HOST/label-studio/data/local-files/?d=a%20b.png",
        "https://host:443/label-studio/data/local-files/?d=a%20b.png",
        "http://studio:8080/data/local-files/?d=a%20b.png",
        "http://studio:8080/label-studio/data/local-files/?d=a%20b.png",
    ],
)
def test_own_addresses_by_either_name_are_fetched_where_the_server_is_reached(url: str) -> None:
    assert BESIDE.of_image(url, 7) == BESIDE.own(url) == "http://studio:8080/data/local-files/?d=a%20b.png"


@pytest.mark.parametrize(
    "url",
    [
        "https://host/other/a.png",
        "https://host/label-studio-two/a.png",
        "https://host/label-studio/../other/a.png",
        "https://host/label-studio/%2e%2e/other/a.png",
        "https://host/label-studio/data/..%2F..%2Fother/a.png",
        "https://host:8443/label-studio/a.png",
        "http://studio:8081/data/a.png",
        "http://studio:8080@elsewhere.org/a.png",
        "http://elsewhere.org/label-studio/a.png",
        "http://[studio/a.png",
    ],
)
def test_another_server_and_another_program_on_the_same_host_are_not_own(url: str) -> None:
    """What is own sees the API key."""
    assert BESIDE.own(url) is None and BESIDE.of_image(url, 7) == url


def test_a_path_beside_the_sub_path_is_not_label_studio_s() -> None:
    assert BESIDE.of_image("/photos/a.png", 7) == "https://host/photos/a.png"
    assert PLAIN.of_image("/photos/a.png", 7) == "http://studio:8080/photos/a.png"


def test_what_is_uploaded_is_written_as_browsers_ask_for_it() -> None:
    assert BESIDE.in_task("/data/upload/1/a.png") == "/label-studio/data/upload/1/a.png"
    assert PLAIN.in_task("/data/upload/1/a.png") == "/data/upload/1/a.png"


def test_cloud_storage_is_resolved_by_the_server_and_other_schemes_are_named() -> None:
    assert BESIDE.of_image("s3://b/a.png", 7) == "http://studio:8080/tasks/7/resolve/?fileuri=czM6Ly9iL2EucG5n"
    for scheme in ("ftp://h/a.png", "file:///a.png", "blob:http://h/1", "C:\\photos\\a.png"):
        with pytest.raises(BadImage, match=rf"task 7 has a {scheme.partition(':')[0].lower()}: address; http:, https:"):
            PLAIN.of_image(scheme, 7)


@pytest.mark.parametrize(
    ("root", "wanted"),
    [
        ("https://host/set%20one", "https://host/set%20one/field%201/R%C3%BCbe%2B1.png"),
        ("/data/local-files/?d=", "/data/local-files/?d=field%201/R%C3%BCbe%2B1.png"),
        ("s3://bucket", "s3://bucket/field 1/Rübe+1.png"),
        ("gs://bucket/set one/", "gs://bucket/set one/field 1/Rübe+1.png"),
        ("azure-blob://box/", "azure-blob://box/field 1/Rübe+1.png"),
    ],
)
def test_names_are_quoted_below_a_root_but_in_cloud_storage(root: str, wanted: str) -> None:
    """Label Studio asks a cloud for the key as it stands (https://github.com/HumanSignal/label-studio/pull/1133)."""
    assert image_address(root, "field 1/Rübe+1.png") == wanted
