"""Checks the dependency tree, as `cargo metadata` tells it:

- batch, speed and serving depend on shared and never on each other; e2e links no part of Tidemark;
- the binary links no test machinery;
- shared links no broker, S3, SQL-database or HTTP server client;
- one DataFusion, one Arrow, one Parquet, one object_store, one deltalake in the tree;
- licences, sources and banned crates as in deny.toml.

Standard library only. Exit code 0: all hold; 1: a rule is broken, one line each.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# who may not reach whom, over normal and build dependencies, directly or not
APART = {
    "tidemark-batch": ["tidemark-speed", "tidemark-serving", "tidemark"],
    "tidemark-speed": ["tidemark-batch", "tidemark-serving", "tidemark"],
    "tidemark-serving": ["tidemark-batch", "tidemark-speed", "tidemark"],
    "tidemark-kafka": ["tidemark-batch", "tidemark-speed", "tidemark-serving", "tidemark"],
    "tidemark-opensearch": ["tidemark-batch", "tidemark-speed", "tidemark-serving", "tidemark"],
    "tidemark-shared": [
        "tidemark-batch",
        "tidemark-speed",
        "tidemark-serving",
        "tidemark-stores",
        "aws-config",
        "aws-sdk-s3",
        "axum",
        "opensearch",
        "rdkafka",
        "sqlx",
        "tonic",
    ],
    # tests only
    "tidemark": ["tidemark-testing", "tidemark-sim"],
    "tidemark-e2e": ["tidemark-shared", "tidemark-batch", "datafusion", "arrow"],
}

# a second version of these would be a second type of the same name
SINGLE = ["arrow", "arrow-array", "arrow-schema", "datafusion", "deltalake", "object_store", "parquet", "sqlparser"]


def metadata() -> dict:
    command = ["cargo", "metadata", "--format-version", "1", "--filter-platform", "x86_64-unknown-linux-gnu"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"cargo metadata failed: {done.stderr.strip()}")
    return json.loads(done.stdout)


def tree(data: dict) -> tuple[dict[str, dict], dict[str, list[str]]]:
    """Packages by id, and for each the ids it links or builds with; development dependencies are left out."""
    edges = {}
    for node in data["resolve"]["nodes"]:
        edges[node["id"]] = [
            dep["pkg"] for dep in node["deps"] if any(kind["kind"] != "dev" for kind in dep["dep_kinds"])
        ]
    return {p["id"]: p for p in data["packages"]}, edges


def reachable(start: str, edges: dict[str, list[str]]) -> set[str]:
    seen, todo = set(), [start]
    while todo:
        for following in edges.get(todo.pop(), []):
            if following not in seen:
                seen.add(following)
                todo.append(following)
    return seen


def layers(packages: dict, edges: dict, members: list[str]) -> list[str]:
    lines = []
    by_name = {packages[i]["name"]: i for i in members}
    for name, others in APART.items():
        if name not in by_name:
            lines.append(f"the workspace has no member {name}: change the rule with it")
            continue
        found = {packages[i]["name"] for i in reachable(by_name[name], edges)}
        lines += [f"{name} depends on {other}" for other in others if other in found]
    return lines


def singles(packages: dict, used: set[str]) -> list[str]:
    lines = []
    for name in SINGLE:
        versions = sorted({packages[i]["version"] for i in used if packages[i]["name"] == name})
        if len(versions) > 1:
            lines.append(f"{name} is in the tree {len(versions)} times: {', '.join(versions)}")
    return lines


def deny_rules() -> tuple[set[str], set[tuple[str, str]], dict[str, list[str]], list[str]]:
    """Allowed licences, exceptions (crate, licence), banned crates with those that may use them all the same, allowed registries. deny.toml is
    simple enough to need no TOML parser, which Python has only from 3.11 on."""
    text = re.sub(r"#.*", "", (ROOT / "deny.toml").read_text())

    def strings(key: str) -> list[str]:
        block = re.search(rf"^{key} = \[(.*?)\]", text, re.S | re.M)
        if not block:
            raise SystemExit(f"deny.toml has no {key}")
        return re.findall(r'"([^"]+)"', block.group(1))

    bans = re.search(r"^deny = \[(.*?)^\]", text, re.S | re.M)
    exceptions = {
        (crate, licence)
        for licences, crate in re.findall(r'\{ allow = \[([^\]]+)\], crate = "([^"]+)" \}', text)
        for licence in re.findall(r'"([^"]+)"', licences)
    }
    banned = {
        crate: re.findall(r'"([^"]+)"', wrappers)
        for crate, wrappers in re.findall(r'\{ crate = "([^"]+)"(?:, wrappers = \[([^\]]*)\])?', bans.group(1))
    }
    return set(strings("allow")), exceptions, banned, strings("allow-registry")


def licence_ok(expression: str, allowed: set[str]) -> bool:
    """Evaluates an SPDX expression: OR needs one side, AND both; `A/B` is the old form of OR."""
    tokens = re.findall(r"\(|\)|[^\s()]+", expression.replace("/", " OR "))

    def one(at: int) -> tuple[bool, int]:
        if tokens[at] == "(":
            value, at = any_of(at + 1)
            return value, at + 1
        name, at = tokens[at], at + 1
        if at < len(tokens) and tokens[at] == "WITH":
            name, at = f"{name} WITH {tokens[at + 1]}", at + 2
        return name in allowed, at

    def all_of(at: int) -> tuple[bool, int]:
        value, at = one(at)
        while at < len(tokens) and tokens[at] == "AND":
            other, at = one(at + 1)
            value = value and other
        return value, at

    def any_of(at: int) -> tuple[bool, int]:
        value, at = all_of(at)
        while at < len(tokens) and tokens[at] == "OR":
            other, at = all_of(at + 1)
            value = value or other
        return value, at

    return any_of(0)[0]


def licences_and_sources(packages: dict, edges: dict, used: set[str]) -> list[str]:
    allowed, exceptions, banned, registries = deny_rules()
    lines = []
    for package in sorted((packages[i] for i in used), key=lambda p: p["name"]):
        name = f"{package['name']} {package['version']}"
        if package["name"] in banned:
            users = sorted({packages[i]["name"] for i in used if package["id"] in edges.get(i, [])})
            lines += [
                f"{name} is banned by deny.toml, and {user} uses it"
                for user in users
                if user not in banned[package["name"]]
            ]
        own = {licence for crate, licence in exceptions if crate == package["name"]}
        if not licence_ok(package["license"] or "none", allowed | own):
            lines.append(f"{name}: licence {package['license']} is not among those of deny.toml")
        source = package["source"]
        if source and source.removeprefix("registry+") not in registries:
            lines.append(f"{name} comes from {source}")
    return lines


def main() -> int:
    data = metadata()
    packages, edges = tree(data)
    members = data["workspace_members"]
    used = set(members).union(*(reachable(i, edges) for i in members))
    lines = layers(packages, edges, members) + singles(packages, used) + licences_and_sources(packages, edges, used)
    for line in lines:
        print(f"dependencies: {line}", file=sys.stderr)
    if not lines:
        print(f"dependencies: {len(used)} packages, layers, versions, licences and sources are as they should be")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
