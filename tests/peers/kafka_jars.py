"""Jars from Maven Central: the real Kafka 3.9.1 with its tools, and Java clients of any release.

Why Maven and not an archive: it is a package registry that every build machine can reach, and it
brings exactly the dependencies of a release. Jars go to the cache (see cache.py), once.
`OTTLA_TEST_KAFKA_LIBS` names a directory of jars to use instead for Kafka 3.9.1.
Runs in: the test process (calls `mvn`).
"""
from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.peers.cache import cached_directory
from tests.peers.processes import PeerUnavailableError

KAFKA_VERSION = "3.9.1"
SLF4J_VERSION = "1.7.36"
MAVEN_TIMEOUT_SECONDS = 280  # below the time that a test may take

KAFKA_COORDINATES = (
    f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}",
    f"org.apache.kafka:kafka-tools:{KAFKA_VERSION}",
    f"org.slf4j:slf4j-reload4j:{SLF4J_VERSION}",
)

_POM = """<project xmlns="http://maven.apache.org/POM/4.0.0">
<modelVersion>4.0.0</modelVersion>
<groupId>ottla.tests</groupId><artifactId>jars</artifactId><version>1</version>
<dependencies>{dependencies}</dependencies>
</project>
"""
_DEPENDENCY = "<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version></dependency>"


def java_command(name: str = "java") -> str:
    """`java` or `javac` from JAVA_HOME or the path."""
    home = os.environ.get("JAVA_HOME")
    found = shutil.which(name, path=f"{home}/bin") if home else None
    found = found or shutil.which(name)
    if found is None:
        raise PeerUnavailableError(f"no {name} found: install a JDK 17 (Debian: default-jdk-headless)")
    return found


def maven_libs(name: str, coordinates: tuple[str, ...]) -> Path:
    """A directory with the jars of these `group:artifact:version` and of all they depend on."""
    java_command()
    dependencies = "".join(_DEPENDENCY.format(*each.split(":")) for each in coordinates)
    pom = _POM.format(dependencies=dependencies)
    return cached_directory(name, pom, lambda work: _copy_dependencies(pom, work))


def _copy_dependencies(pom: str, work: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise PeerUnavailableError("no mvn found: install Maven (Debian: maven)")
    (work / "pom.xml").write_text(pom)
    command = [maven, "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=libs"]
    result = subprocess.run(
        command, cwd=work, capture_output=True, text=True, timeout=MAVEN_TIMEOUT_SECONDS, check=False
    )
    if result.returncode != 0:
        said = (result.stdout + result.stderr).strip().partition("\n")[0]
        raise PeerUnavailableError(f"Maven could not fetch the jars: {said[:1000]}")
    for jar in (work / "libs").iterdir():
        jar.rename(work / jar.name)
    (work / "libs").rmdir()


def kafka_libs() -> Path:
    """The directory of Kafka 3.9.1's jars; PeerUnavailableError says what is missing otherwise."""
    configured = os.environ.get("OTTLA_TEST_KAFKA_LIBS")
    if not configured:
        return maven_libs(f"kafka-{KAFKA_VERSION}", KAFKA_COORDINATES)
    libs = Path(configured)
    if not list(libs.glob("kafka_2.13-*.jar")):
        raise PeerUnavailableError(f"OTTLA_TEST_KAFKA_LIBS={configured} holds no kafka_2.13 jar")
    java_command()
    return libs


def client_libs(version: str) -> Path:
    """kafka-clients of one release. The log binding is the one that its slf4j API (1.7) accepts."""
    return maven_libs(
        f"kafka-clients-{version}",
        (f"org.apache.kafka:kafka-clients:{version}", f"org.slf4j:slf4j-nop:{SLF4J_VERSION}"),
    )
