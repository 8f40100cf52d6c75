"""Alerts, the dashboard and the runbook: they are about figures that there are, and promtool
agrees."""

import json
import re
import subprocess
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

import osmo_listener.figures
import osmo_operator.figures
import osmo_runtime.operations.figures
import osmo_worker.figures
from osmo_pipeline.__main__ import COMMANDS
from osmo_runtime.operations import Figure, Kind
from tests.deploy.tools import CHART, PROMTOOL_MISSING, promtool
from tests.test_layout import ROOT

ALERTS_FILE = CHART / "files" / "alerts.yaml"
GROUPS = yaml.safe_load(ALERTS_FILE.read_text())["groups"]
ALERTS: dict[str, Any] = {rule["alert"]: rule for group in GROUPS for rule in group["rules"]}
DASHBOARD = json.loads((CHART / "files" / "dashboard.json").read_text())
PANELS = DASHBOARD["panels"]
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()

FIGURES: dict[str, Figure] = {
    figure.exposed: figure
    for figures in (
        osmo_listener.figures.FIGURES,
        osmo_operator.figures.FIGURES,
        osmo_worker.figures.FIGURES,
        osmo_runtime.operations.figures.FIGURES,
    )
    for figure in figures
}
SCRAPED = {"instance", "le"}
"""Labels that are not of a figure."""


def asked_for(expression: str) -> set[Figure]:
    """The figures that a query names.

    Raises:
        KeyError: one of them is told by no program, or in another form.
    """
    found = set()
    for name in re.findall(r"\bosmo_\w+", expression):
        figure = FIGURES[name.removesuffix("_bucket")]
        assert (figure.kind is Kind.HISTOGRAM) == name.endswith("_bucket"), name
        found.add(figure)
    return found


QUERIES = [
    *(pytest.param(rule["expr"], id=name) for name, rule in ALERTS.items()),
    *(
        pytest.param(target["expr"], id=f"{panel['title']}-{target['refId']}")
        for panel in PANELS
        for target in panel.get("targets", [])
    ),
]


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_is_about_figures_that_there_are(query: str) -> None:
    """By their names, kinds and attributes."""
    figures = asked_for(query)
    assert figures
    attributes = SCRAPED.union(*(figure.attributes for figure in figures))
    grouped = re.findall(r"\b(?:by|on) \(([^)]*)\)", query)
    matched = re.findall(r"[{,]\s*(\w+)\s*(?:=|!=|=~|!~)", query)
    named = {name.strip() for each in grouped for name in each.split(",")} | set(matched)
    assert named <= attributes
    rates = {
        FIGURES[name]
        for name in re.findall(r"(?:rate|increase)\((osmo_\w+?)(?:_bucket)?[{[]", query)
    }
    assert Kind.GAUGE not in {figure.kind for figure in rates}
    if "absent(" not in query and " unless " not in query:
        assert rates == {figure for figure in figures if figure.kind is not Kind.GAUGE}


def test_every_figure_is_on_the_dashboard() -> None:
    """What is told is worth a look."""
    shown = {
        figure
        for panel in PANELS
        for target in panel.get("targets", [])
        for figure in asked_for(target["expr"])
    }
    assert shown == set(FIGURES.values())


def test_panels_lie_side_by_side() -> None:
    """None covers another one, and each has its own number."""
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    for one, other in combinations((panel["gridPos"] for panel in PANELS), 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert beside or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert one["x"] + one["w"] <= 24


def test_every_alert_leads_to_its_section() -> None:
    """And every section is that of an alert."""
    sections = re.findall(r"^### (\w+)$", RUNBOOK, re.MULTILINE)
    assert sections == list(ALERTS)
    for name, rule in ALERTS.items():
        address, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        assert address.endswith("/docs/runbook.md")
        assert anchor == name.lower()
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}


def test_the_runbook_names_commands_that_there_are() -> None:
    """What it says to run can be run."""
    said = re.findall(r"osmo-pipeline ([a-z]+)(?: ([a-z]+))?", RUNBOOK)
    assert said
    for words in said:
        assert words in COMMANDS or words[:1] in COMMANDS, words


class Case(NamedTuple):
    """Series, with what an alert makes of them. Values are those of each minute, as promtool has
    them: `0+2x30` begins with 0 and adds 2 thirty times."""

    alert: str
    fires: dict[str, str]
    silent: dict[str, str]


def _durations(metric: str, bound: str) -> dict[str, str]:
    """A histogram in which all takes longer than a bound, and no more than ten times of it."""
    longer = f"{float(bound) * 10:g}"
    return {
        f'{metric}_bucket{{le="{bound}"}}': "0x30",
        f'{metric}_bucket{{le="{longer}"}}': "0+60x30",
        f'{metric}_bucket{{le="+Inf"}}': "0+60x30",
    }


def _slow(alert: str, metric: str, above: str, below: str) -> Case:
    return Case(alert, _durations(metric, above), _durations(metric, below))


CASES = [
    Case("OsmoOperatorAbsent", {"up": "1x30"}, {"osmo_operator_fenced_total": "0x30"}),
    Case(
        "OsmoQueueAway",
        {
            'osmo_operator_fenced_total{instance="a"}': "0x30",
            'osmo_operator_fenced_total{instance="b"}': "0x30",
            'osmo_queue_dead{instance="b"}': "0x30",
        },
        {
            'osmo_operator_fenced_total{instance="a"}': "0x30",
            'osmo_queue_dead{instance="a"}': "5x30",
        },
    ),
    Case(
        "OsmoQueueBacklog",
        {'osmo_queue_depth{stream="pods"}': "30000x30"},
        {'osmo_queue_depth{stream="pods"}': "30000x5 0x25"},
    ),
    Case(
        "OsmoQueueStale",
        {'osmo_queue_oldest_seconds{stream="pods"}': "0+60x30"},
        {'osmo_queue_oldest_seconds{stream="pods"}': "250x30"},
    ),
    Case("OsmoQueueUnread", {"osmo_queue_consumers": "0x30"}, {"osmo_queue_consumers": "1x30"}),
    Case(
        "OsmoQueueNearlyFull",
        {
            'osmo_queue_depth{instance="a", stream="pods"}': "500000x30",
            'osmo_queue_depth{instance="a", stream="nodes"}': "300000x30",
            'osmo_queue_pending{instance="a", stream="pods"}': "8000x30",
        },
        {
            'osmo_queue_depth{instance="a", stream="pods"}': "500000x30",
            'osmo_queue_depth{instance="b", stream="pods"}': "500000x30",
            'osmo_queue_pending{instance="a", stream="pods"}': "8000x30",
            'osmo_queue_pending{instance="b", stream="pods"}': "8000x30",
        },
    ),
    Case("OsmoDeadLetters", {"osmo_queue_dead": "1x30"}, {"osmo_queue_dead": "0x30"}),
    _slow("OsmoAppendsSlow", "osmo_operator_append_seconds", "1", "0.01"),
    Case(
        "OsmoPeersRefused",
        {'osmo_operator_refused_total{reason="protocol"}': "0+1x30"},
        {'osmo_operator_refused_total{reason="protocol"}': "0 5x29"},
    ),
    Case(
        "OsmoListenersFenced",
        {"osmo_operator_fenced_total": "0+1x30"},
        {"osmo_operator_fenced_total": "0x15 1x15"},
    ),
    Case(
        "OsmoQueueLostMemory",
        {"osmo_operator_resync_total": "0x25 3x5"},
        {"osmo_operator_resync_total": "3x30"},
    ),
    Case("OsmoWorkerAbsent", {"up": "1x30"}, {"osmo_worker_in_hand": "0x30"}),
    Case(
        "OsmoWorkerHolding", {"osmo_worker_holding": "1x30"}, {"osmo_worker_holding": "0 1x1 0x28"}
    ),
    _slow("OsmoReportsLate", "osmo_backend_event_processing_time_seconds", "10", "0.1"),
    _slow("OsmoStoreSlow", "osmo_store_write_seconds", "2.15", "0.01"),
    Case(
        "OsmoBackendSilent",
        {
            'osmo_backend_last_heartbeat_age_seconds{backend="a"}': "0+60x30",
            'osmo_backend_last_heartbeat_age_seconds{backend="b"}': "20x30",
        },
        {'osmo_backend_last_heartbeat_age_seconds{backend="b"}': "30x30"},
    ),
    Case("OsmoListenerAbsent", {"up": "1x30"}, {"osmo_listener_in_flight": "0x30"}),
    Case(
        "OsmoListenerBlind",
        {'osmo_listener_watch_age_seconds{listener="node"}': "0+60x30"},
        {'osmo_listener_watch_age_seconds{listener="node"}': "95x30"},
    ),
    Case(
        "OsmoListenerBacklog",
        {"osmo_listener_outbox": "20000x30"},
        {"osmo_listener_outbox": "5x30"},
    ),
    Case(
        "OsmoReportsDropped",
        {"osmo_listener_dropped_total": "0x25 9x5"},
        {"osmo_listener_dropped_total": "9x30"},
    ),
    Case(
        "OsmoReportsRejected",
        {"osmo_listener_rejected_total": "0x25 1x5"},
        {"osmo_listener_rejected_total": "1x30"},
    ),
    Case(
        "OsmoListenerReconnects",
        {"osmo_listener_reconnects_total": "0+1x30"},
        {"osmo_listener_reconnects_total": "0x20 2x10"},
    ),
    Case(
        "OsmoListenerRelists",
        {'osmo_listener_relists_total{listener="node", reason="expired"}': "0+1x30"},
        {'osmo_listener_relists_total{listener="node", reason="expired"}': "0x20 3x10"},
    ),
    Case(
        "OsmoObjectsUnreadable",
        {'osmo_listener_unreadable_total{listener="node"}': "0x25 1x5"},
        {'osmo_listener_unreadable_total{listener="node"}': "1x30"},
    ),
    Case(
        "OsmoFileUnusable",
        {'osmo_file_unusable{instance="a", file="/tls.crt"}': "0x20 1x10"},
        {'osmo_file_unusable{instance="a", file="/tls.crt"}': "0x26 1x3"},
    ),
    Case(
        "OsmoPasswordRefused",
        {'osmo_file_refused{instance="a", file="/password"}': "0x20 1x10"},
        {'osmo_file_refused{instance="a", file="/password"}': "0x29 1x1"},
    ),
    Case(
        "OsmoCertificateEnds",
        {'osmo_tls_certificate_expiry_seconds{instance="a", file="/tls.crt"}': "259000-60x30"},
        {'osmo_tls_certificate_expiry_seconds{instance="a", file="/tls.crt"}': "600000-60x30"},
    ),
]


def checked_by_promtool(*arguments: str, given: str = "") -> None:
    """Run it, or skip the test."""
    program = promtool()
    if program is None:
        pytest.skip(PROMTOOL_MISSING)
    done = subprocess.run(
        [program, *arguments], input=given, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_the_rules() -> None:
    """Their syntax, and what it calls bad style."""
    checked_by_promtool("check", "rules", "--lint-fatal", str(ALERTS_FILE))


def test_promtool_accepts_the_queries_of_the_dashboard(tmp_path: Path) -> None:
    """As if each was a rule, with an interval for Grafana's variable."""
    queries = [target["expr"] for panel in PANELS for target in panel.get("targets", [])]
    rules = [
        {"record": f"panel:{number}", "expr": query.replace("$__rate_interval", "5m")}
        for number, query in enumerate(queries)
    ]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    checked_by_promtool("check", "rules", str(file))


def test_alerts_fire_when_they_should(tmp_path: Path) -> None:
    """And not in the other case; every alert has both."""
    assert {case.alert for case in CASES} == set(ALERTS)
    tests = [
        {
            "interval": "1m",
            "name": f"{case.alert}: {'fires' if firing else 'silent'}",
            "input_series": [
                {"series": name, "values": values}
                for name, values in (case.fires if firing else case.silent).items()
            ],
            "promql_expr_test": [
                {
                    "eval_time": "29m",
                    "expr": f'count(ALERTS{{alertname="{case.alert}", alertstate="firing"}})',
                    "exp_samples": [{"labels": "{}", "value": 1}] if firing else [],
                }
            ],
        }
        for case in CASES
        for firing in (True, False)
    ]
    file = tmp_path / "tests.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [str(ALERTS_FILE)], "tests": tests}))
    checked_by_promtool("test", "rules", str(file))
