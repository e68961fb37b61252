"""Rules on the full stack's files that need no server and no container engine:

- both ways of starting it read the same settings, and no setting is set beside them;
- containers: pinned images, health checks, loopback ports, bounded memory, no secret in the environment;
- the Dockerfile: pinned bases, no root, no package lists left behind;
- Prometheus, Grafana, index patterns: they and their queries parse, and name metrics that docs/metrics.md has;
- alerts are those of docs/metrics.md, with the same conditions, and a scrape is waited for longer than it may take;
- with --rendered FILE: what `helm template` made, pod by pod.

Needs PyYAML and promql-parser. Exit code 0: all hold; 1: a rule is broken, one line each.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tomllib
from pathlib import Path

import promql_parser
import yaml

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SERVERS = ROOT / "infra/servers"

# `${NAME}` and `${NAME:-default}`, as Compose and bash read them
NAMED = re.compile(r"\$\{([A-Z][A-Z0-9_]*)(:-[^}]*)?\}")
SECRET = re.compile(r"PASSWORD|SECRET|TOKEN|_KEY$", re.IGNORECASE)
METRIC = re.compile(r"\btidemark_[a-z0-9_]+")
# may stand in the environment of a role beside roles.env: where its own door is
DOOR = "TIDEMARK_DOORS_HTTP"


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def seconds(path: str, name: str) -> int:
    """A bound that the code sets."""
    return int(re.search(rf"^const {name}: Duration = Duration::from_secs\((\d+)\);", text(ROOT / path), re.MULTILINE)[1])


def assignments(path: Path) -> dict[str, str]:
    """`NAME=value` lines."""
    lines = (line.partition("=") for line in text(path).splitlines() if re.match(r"[A-Z][A-Z0-9_]*=", line))
    return {name: value for name, _, value in lines}


def resolved(value: str, settings: dict[str, str]) -> str:
    return NAMED.sub(lambda match: settings.get(match[1], (match[2] or ":-")[2:]), value)


class Stack:
    """The files, read once; `broken` gathers what is wrong with them."""

    def __init__(self) -> None:
        self.broken: list[str] = []
        self.settings = assignments(HERE / ".env")
        self.roles = assignments(HERE / "roles.env")
        self.compose_text = text(HERE / "docker-compose.yml")
        self.compose = yaml.safe_load(self.compose_text)
        self.documented = set(re.findall(r"`(TIDEMARK_[A-Z0-9_]+)`", text(ROOT / "docs/config.md")))
        # for so long a process that has started may be unready, and nothing is wrong: views in memory are made anew
        self.unready_s = seconds("infra/src/up/ready.rs", "CATCHING_UP_MAX")
        self.metrics = set(re.findall(r"^\| `(tidemark_[a-z0-9_]+)`", text(ROOT / "docs/metrics.md"), re.MULTILINE))

    def rule(self, holds: object, message: str) -> None:
        if not holds:
            self.broken.append(message)

    @property
    def services(self) -> dict[str, dict]:
        return self.compose["services"]

    def own(self) -> dict[str, dict]:
        """The services that are Tidemark."""
        return {name: service for name, service in self.services.items() if "build" in service}


# ---- one set of settings --------------------------------------------------------------------------


def settings(stack: Stack) -> None:
    """Every name that is used is a setting, and every setting is used."""
    uncommented = "\n".join(line for line in stack.compose_text.splitlines() if not line.lstrip().startswith("#"))
    used = dict(NAMED.findall(uncommented)) | dict(NAMED.findall("\n".join(stack.roles.values())))
    for name, default in used.items():
        stack.rule(default or name in stack.settings, f".env: ${{{name}}} is used and not set")
    scripts = "\n".join(text(path) for path in [HERE / "stack.sh", *sorted(SERVERS.glob("*.sh"))])
    for name in stack.settings:
        in_use = name in used or re.search(rf"\b{name}\b", scripts)
        stack.rule(in_use, f".env: {name} is set and not used")
        stack.rule(name == "SECRETS" or not SECRET.search(name), f".env: {name} looks like a secret")


def one_environment(stack: Stack) -> None:
    """What roles are told stands in roles.env and tidemark.toml, which both ways use."""
    for name in stack.roles:
        known = name in stack.documented or name == "TIDEMARK_LOG" or name.startswith("AWS_")
        stack.rule(known, f"roles.env: docs/config.md knows no {name}")
    for name, service in stack.own().items():
        more = set(service.get("environment", {})) - {DOOR}
        stack.rule(not more, f"docker-compose.yml: {name}: {sorted(more)} belong into roles.env")
        stack.rule("roles.env" in service.get("env_file", []), f"docker-compose.yml: {name} does not read roles.env")
        mounts = [volume for volume in service["volumes"] if volume.startswith("./tidemark.toml:")]
        stack.rule(mounts, f"docker-compose.yml: {name} does not read tidemark.toml")
    script = text(HERE / "stack.sh")
    more = set(re.findall(r"\b(TIDEMARK_[A-Z0-9_]+)=", script)) - {DOOR, "TIDEMARK_DOCKER", "TIDEMARK_BIN", "TIDEMARK_TOKEN", "TIDEMARK_DATA_DIR", "TIDEMARK_SERVER"}
    stack.rule(not more, f"stack.sh: {sorted(more)} belong into roles.env")
    stack.rule('. "$here/roles.env"' in script, "stack.sh does not read roles.env")
    stack.rule('--config "$here/tidemark.toml"' in script, "stack.sh does not read tidemark.toml")
    toml = tomllib.loads(text(HERE / "tidemark.toml"))
    for section, values in toml.items():
        for key in values:
            name = f"TIDEMARK_{section}_{key}".upper()
            stack.rule(name in stack.documented, f"tidemark.toml: docs/config.md knows no {section}.{key}")
            stack.rule(name not in stack.roles, f"tidemark.toml: {section}.{key} is in roles.env too")


def versions(stack: Stack) -> None:
    """Tests run on the servers that .env says, as the stack does: neither scripts nor containers have versions of their own."""
    for path in sorted(SERVERS.glob("*.sh")):
        for brace, name, default in re.findall(r"\$(\{?)([A-Z][A-Z0-9_]*_VERSION)\b(:?[-=])?", text(path)):
            stack.rule(name in stack.settings, f"infra/servers/{path.name}: {name} is not in .env")
            stack.rule(not (brace and default), f"infra/servers/{path.name}: {name} has a value beside that of .env")
    for name, service in yaml.safe_load(text(SERVERS / "compose.yml"))["services"].items():
        where, image = f"infra/servers/compose.yml: {name}", service["image"]
        tag = NAMED.fullmatch(image.rpartition(":")[2])
        said = tag and tag[1] in stack.settings and not tag[2]
        stack.rule(said, f"{where}: the version of {image} is not one of .env")
        own = stack.services.get(name, {}).get("image", image)
        stack.rule(image == own, f"{where}: tests run on {image}, the stack on {own}")
    version = re.search(r'^version = "(.+)"', text(ROOT / "Cargo.toml"), re.MULTILINE)
    stack.rule(version and stack.settings["TIDEMARK_IMAGE"].endswith(":" + version[1]), ".env: TIDEMARK_IMAGE has not the version of Cargo.toml")


# ---- containers -----------------------------------------------------------------------------------


def services(stack: Stack) -> None:
    for name, service in stack.services.items():
        where = f"docker-compose.yml: {name}"
        image = resolved(service["image"], stack.settings)
        tag = image.rpartition(":")[2] if ":" in image.rpartition("/")[2] else ""
        stack.rule(re.search(r"\d", tag) and tag != "latest", f"{where}: the image {image} is not pinned")
        # Tidemark's own is in the Dockerfile
        stack.rule("healthcheck" in service or "build" in service, f"{where}: no health check")
        stack.rule("mem_limit" in service, f"{where}: no bound on memory")
        stack.rule("no-new-privileges:true" in service.get("security_opt", []), f"{where}: may gain privileges")
        stack.rule(not service.get("privileged"), f"{where}: is privileged")
        for port in service.get("ports", []):
            stack.rule(port.startswith("127.0.0.1:"), f"{where}: port {port} is not on loopback")
        for variable, value in service.get("environment", {}).items():
            plain = SECRET.search(variable) and not str(value).startswith("/run/secrets/")
            stack.rule(not plain, f"{where}: the secret {variable} is not in a file")
        on = service.get("depends_on", {})
        stack.rule(isinstance(on, dict) and all("condition" in of for of in on.values()), f"{where}: depends_on has no condition")
        stack.rule(set(on) <= set(stack.services), f"{where}: depends on what is not there")
        for secret in service.get("secrets", []):
            stack.rule(secret in stack.compose["secrets"], f"{where}: the secret {secret} is not declared")
        mounts(stack, where, service)
    for name, service in stack.own().items():
        where = f"docker-compose.yml: {name}"
        stack.rule(service.get("read_only"), f"{where}: can write to its image")
        stack.rule(service.get("cap_drop") == ["ALL"], f"{where}: keeps capabilities")
        stack.rule(not str(service.get("user", "0")).startswith("0"), f"{where}: runs as root")
    laptop = [name for name, service in stack.services.items() if "laptop" in service.get("profiles", ["laptop"])]
    stack.rule({"grafana", "prometheus", "dashboards"}.isdisjoint(laptop), f"docker-compose.yml: the laptop's profile has {laptop}")


def mounts(stack: Stack, where: str, service: dict) -> None:
    for volume in service.get("volumes", []):
        source, colon, _ = volume.partition(":")
        if not colon:
            continue
        if source.startswith("."):
            stack.rule((HERE / source).exists(), f"{where}: mounts {source}, which is not there")
            stack.rule(volume.endswith(":ro"), f"{where}: may write to {source}")
        else:
            stack.rule(source in stack.compose["volumes"], f"{where}: the volume {source} is not declared")


def dockerfile(stack: Stack) -> None:
    lines = re.sub(r"\\\n", " ", text(HERE / "Dockerfile")).splitlines()
    steps = [line.split(None, 1) for line in lines if line and not line.startswith("#")]
    bases = [step[1] for step in steps if step[0] == "FROM"]
    for base in bases:
        stack.rule(re.search(r":[\w.-]*\d", base), f"Dockerfile: FROM {base} is not pinned")
    users = [step[1] for step in steps if step[0] == "USER"]
    stack.rule(users and re.match(r"[1-9]\d*(:|$)", users[-1]), "Dockerfile: the last USER is not a number other than 0")
    checks = [step[1] for step in steps if step[0] == "HEALTHCHECK"]
    stack.rule(checks, "Dockerfile: no HEALTHCHECK")
    for check in checks:
        start = re.search(r"--start-period=(\d+)s", check)
        patient = start and int(start[1]) > stack.unready_s
        stack.rule(patient, f"Dockerfile: HEALTHCHECK fails a process that is unready for {stack.unready_s} s, which it may be")
    stack.rule(not any(step[0] == "ADD" for step in steps), "Dockerfile: ADD where COPY belongs")
    for step in steps:
        if step[0] in {"ENV", "ARG"}:
            stack.rule(not SECRET.search(step[1]), f"Dockerfile: {step[0]} {step[1]} looks like a secret")
        if step[0] == "RUN" and "apt-get install" in step[1]:
            stack.rule("rm -rf /var/lib/apt/lists" in step[1], "Dockerfile: package lists are left behind")
            stack.rule("--no-install-recommends" in step[1], "Dockerfile: installs what is only recommended")
    toolchain = tomllib.loads(text(ROOT / "rust-toolchain.toml"))["toolchain"]["channel"]
    stack.rule(bases[0].startswith(f"rust:{toolchain}-"), f"Dockerfile: builds with {bases[0]}, not with {toolchain}")
    ignored = text(ROOT / ".dockerignore").splitlines()
    stack.rule("*" in ignored and "infra/stack" in ignored, ".dockerignore: secrets or builds could get into an image")


# ---- to look at it --------------------------------------------------------------------------------


def known_metrics(stack: Stack, where: str, expression: str) -> None:
    for metric in METRIC.findall(expression):
        name = re.sub(r"_(bucket|sum|count)$", "", metric)
        stack.rule(metric in stack.metrics or name in stack.metrics, f"{where}: docs/metrics.md has no {metric}")
    try:
        promql_parser.parse(expression)
    except ValueError as error:
        stack.rule(False, f"{where}: {error}: {expression}")


def prometheus(stack: Stack) -> None:
    config = yaml.safe_load(text(HERE / "prometheus/prometheus.yml"))
    for job in config["scrape_configs"]:
        for target in (target for group in job["static_configs"] for target in group["targets"]):
            stack.rule(target.partition(":")[0] in stack.services, f"prometheus.yml: no service {target}")
    scraped = {group["labels"]["service"] for group in config["scrape_configs"][0]["static_configs"]}
    roles = {name for name, service in stack.own().items() if "full" in service["profiles"]}
    stack.rule(scraped == roles, f"prometheus.yml: scrapes {sorted(scraped)}, there are {sorted(roles)}")
    waited, longest = config["global"]["scrape_timeout"], seconds("infra/src/up/facts.rs", "STATUS_MAX")
    patient = re.fullmatch(r"(\d+)s", waited) and int(waited[:-1]) > longest
    stack.rule(patient, f"prometheus.yml: scrape_timeout is {waited}, and a scrape may take {longest} s")


def alerts(stack: Stack) -> None:
    found: dict[str, tuple[str, str]] = {}
    for group in yaml.safe_load(text(HERE / "prometheus/alerts.yml"))["groups"]:
        for rule in group["rules"]:
            name, wait = rule["alert"], rule.get("for", "")
            found[name] = (" ".join(rule["expr"].split()), wait)
            known_metrics(stack, f"alerts.yml: {name}", rule["expr"])
            minutes = re.fullmatch(r"(\d+)m", wait or "0m")
            patient = "tidemark_ready" not in rule["expr"] or minutes and int(minutes[1]) * 60 > stack.unready_s
            stack.rule(patient, f"alerts.yml: {name} wakes people for a process that may be unready for {stack.unready_s} s")
    documented = conditions(text(ROOT / "docs/metrics.md"))
    for name in sorted(found.keys() | documented.keys()):
        here, there = found.get(name, "not there"), documented.get(name, "not there")
        stack.rule(here == there, f"alerts.yml: {name} is {here}, in docs/metrics.md {there}")


def conditions(document: str) -> dict[str, tuple[str, str]]:
    """The rules of the document's last table: name, condition and how long it has to hold."""
    _, _, section = document.partition("## What to be woken for")
    rows = [re.split(r"(?<!\\)\|", line)[2:5] for line in section.splitlines() if line.startswith("|")][2:]
    plain = [[cell.strip().strip("`").replace("\\|", "|") for cell in row] for row in rows]
    return {name: (condition, wait) for name, condition, wait in plain}


def grafana(stack: Stack) -> None:
    sources = yaml.safe_load(text(HERE / "grafana/provisioning/datasources/prometheus.yml"))["datasources"]
    uids = {source["uid"] for source in sources}
    yaml.safe_load(text(HERE / "grafana/provisioning/dashboards/tidemark.yml"))
    for path in sorted((HERE / "grafana/dashboards").glob("*.json")):
        board = json.loads(text(path))
        ids = [panel["id"] for panel in board["panels"]]
        stack.rule(len(ids) == len(set(ids)), f"{path.name}: two panels have one id")
        taken: dict[tuple[int, int], str] = {}
        for panel in board["panels"]:
            at, title = panel["gridPos"], panel["title"]
            for cell in ((x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])):
                stack.rule(cell not in taken and cell[0] < 24, f"{path.name}: `{title}` lies over `{taken.get(cell)}`")
                taken[cell] = title
            for target in panel.get("targets", []):
                stack.rule(target["datasource"]["uid"] in uids, f"{path.name}: `{title}` asks a source that is not there")
                known_metrics(stack, f"{path.name}: `{title}`", target["expr"])


def index_patterns(stack: Stack) -> None:
    objects = [json.loads(line) for line in text(HERE / "dashboards/index-patterns.ndjson").splitlines()]
    for found in objects:
        title = found["attributes"]["title"]
        begins = title.startswith(stack.settings["OPENSEARCH_PREFIX"] + "__")
        stack.rule(found["type"] == "index-pattern" and begins, f"index-patterns.ndjson: {title} matches no index of ours")
    stack.rule(len({found["id"] for found in objects}) == len(objects), "index-patterns.ndjson: two have one id")


# ---- Kubernetes -----------------------------------------------------------------------------------


def rendered(stack: Stack, path: Path) -> None:
    found = [document for document in yaml.safe_load_all(text(path)) if document]
    kinds = [document["kind"] for document in found]
    for kind in ("Deployment", "Service", "ConfigMap", "PodDisruptionBudget", "ServiceAccount"):
        stack.rule(kind in kinds, f"Helm: no {kind}")
    roles = {name for name, service in stack.own().items() if "full" in service["profiles"]}
    deployments = [document for document in found if document["kind"] == "Deployment"]
    made = {document["metadata"]["labels"]["app.kubernetes.io/component"] for document in deployments}
    stack.rule(made == roles, f"Helm: roles are {sorted(made)}, by Compose {sorted(roles)}")
    labels = [document["spec"]["template"]["metadata"]["labels"] for document in deployments]
    for document in found:
        if document["kind"] == "Deployment":
            pod(stack, document["metadata"]["name"], document["spec"])
        selector = document.get("spec", {}).get("selector", {})
        selector = selector.get("matchLabels", selector)
        chosen = [label for label in labels if selector.items() <= label.items()]
        stack.rule(not selector or len(chosen) == 1, f"Helm: {document['kind']} {document['metadata']['name']} selects {len(chosen)} roles")
        if document["kind"] == "ConfigMap":
            config = tomllib.loads(document["data"]["tidemark.toml"])
            keys = {f"TIDEMARK_{name}".upper().replace(".", "_") for name in flat(config)}
            stack.rule(keys <= stack.documented, f"Helm: docs/config.md knows no {sorted(keys - stack.documented)}")


def flat(table: dict, prefix: str = "") -> list[str]:
    names = []
    for key, value in table.items():
        names += flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [prefix + key]
    return names


def pod(stack: Stack, name: str, spec: dict) -> None:
    where, template = f"Helm: {name}", spec["template"]["spec"]
    matched = spec["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()
    stack.rule(matched, f"{where}: selects other pods than its own")
    stack.rule(template["securityContext"].get("runAsNonRoot"), f"{where}: may run as root")
    volumes = {volume["name"] for volume in template["volumes"]}
    for container in template["containers"]:
        secure = container["securityContext"]
        stack.rule(secure.get("readOnlyRootFilesystem"), f"{where}: can write to its image")
        stack.rule(secure.get("allowPrivilegeEscalation") is False, f"{where}: may gain privileges")
        stack.rule(secure["capabilities"]["drop"] == ["ALL"], f"{where}: keeps capabilities")
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            stack.rule(probe in container, f"{where}: no {probe}")
        resources = container.get("resources", {})
        stack.rule("memory" in resources.get("limits", {}) and "requests" in resources, f"{where}: no bound on memory")
        stack.rule(not container["image"].endswith(":latest"), f"{where}: the image is not pinned")
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        stack.rule(mounted == volumes, f"{where}: mounts {sorted(mounted)} of {sorted(volumes)}")
        for variable in container["env"]:
            plain = SECRET.search(variable["name"]) and "value" in variable and not variable["value"].startswith("/")
            stack.rule(not plain, f"{where}: the secret {variable['name']} is in plain text")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rendered", type=Path, help="what `helm template` printed; only this is checked then")
    args = parser.parse_args()
    stack = Stack()
    if args.rendered:
        rendered(stack, args.rendered)
    else:
        for check in (settings, one_environment, versions, services, dockerfile, prometheus, alerts, grafana, index_patterns):
            check(stack)
    for problem in stack.broken:
        print(f"stack: {problem}", file=sys.stderr)
    return 1 if stack.broken else 0


if __name__ == "__main__":
    sys.exit(main())
