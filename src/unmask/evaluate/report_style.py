"""How the page of a report looks: on white, on black, and on paper."""

from __future__ import annotations

from unmask.evaluate.plots import COLOURS

__all__ = ["STYLE"]

_DARK = {
    "ink": "#e6e8eb",
    "line": "#3c434d",
    "real": "#56b4e9",
    "fake": "#ff8f45",
    "s1": "#56b4e9",
    "s2": "#ff8f45",
    "s3": "#35c9a5",
    "s4": "#df8fd0",
    "s5": "#e0c04a",
    "s6": "#aab2bd",
}
"""The same hues, lighter."""

_PAGE = {"paper": "#ffffff", "panel": "#f5f7f9", "soft": "#57606b", "mark": "#fff4e5"}
_DARK_PAGE = {"paper": "#14171b", "panel": "#1d2127", "soft": "#a3acb8", "mark": "#3a2a12"}


def _variables(colours: dict[str, str]) -> str:
    return " ".join(f"--{name}: {colour};" for name, colour in colours.items())


_LIGHT = _variables({**COLOURS, **_PAGE})

STYLE = (
    f"""
:root {{ color-scheme: light dark; {_LIGHT} }}
@media (prefers-color-scheme: dark) {{ :root {{ {_variables({**_DARK, **_DARK_PAGE})} }} }}
@media print {{ :root {{ color-scheme: light; {_LIGHT} }} }}
"""
    + """
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  margin: 2.5rem auto; max-width: 104rem; padding: 0 1.2rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .5rem; padding-top: .7rem;
  border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.6rem 0 .3rem; overflow-wrap: anywhere; }
p { max-width: 62rem; margin: .4rem 0; overflow-wrap: anywhere; }
.soft, figcaption, small { color: var(--soft); font-size: .86rem; }
a { color: var(--s1); }
nav { display: flex; flex-wrap: wrap; gap: .1rem .9rem; margin: 1rem 0; font-size: .9rem; }
.cards { display: grid; gap: .8rem; margin: 1.2rem 0;
  grid-template-columns: repeat(auto-fit, minmax(8rem, 1fr)); }
.card { background: var(--panel); border-radius: 8px; padding: .6rem .8rem; }
.card b { display: block; font-size: 1.55rem; line-height: 1.25;
  font-variant-numeric: tabular-nums; }
.card sup { font-size: .5em; line-height: 0; margin-left: .15em; font-weight: 400; }
.card span { display: block; font-size: .86rem; }
.card small { display: block; line-height: 1.35; overflow-wrap: anywhere; }
.notes { background: var(--mark); border-radius: 8px; padding: .7rem 1.1rem; margin: 1rem 0; }
.notes ul { margin: .2rem 0; padding-left: 1.1rem; }
.notes li { overflow-wrap: anywhere; }
.tables { display: flex; flex-wrap: wrap; gap: 0 1.8rem; align-items: flex-start; }
.tables > div { min-width: 0; max-width: 100%; }
.wide { overflow-x: auto; margin: .5rem 0 .3rem; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: .5rem 0 .3rem; }
th, td { padding: .32rem .7rem .32rem 0; text-align: right; vertical-align: top;
  border-bottom: 1px solid var(--line); }
th { font-weight: 600; }
thead th { vertical-align: bottom; color: var(--soft); font-weight: 500; max-width: 8em; }
.name { text-align: left; min-width: 6em; max-width: 17em; overflow-wrap: anywhere; }
tbody small { display: block; font-size: .94em; line-height: 1.3; white-space: nowrap;
  font-weight: 400; }
tr.mean th, tr.mean td, tr.all th, tr.all td { background: var(--panel); }
tr.worst th, tr.worst td { background: var(--mark); }
ol.foot { color: var(--soft); font-size: .84rem; margin: .2rem 0 .8rem; padding-left: 1.3rem;
  max-width: 62rem; overflow-wrap: anywhere; }
sup { font-size: .75em; line-height: 0; }
.plots { display: flex; flex-wrap: wrap; gap: .4rem 1.6rem; align-items: flex-start; }
.plots figcaption { max-width: 25rem; }
figure { margin: .6rem 0; max-width: 100%; break-inside: avoid; }
.curves figure { flex: 1 1 20rem; max-width: 32rem; }
.curves svg.plot { width: 100% !important; }
svg.plot { display: block; max-width: 100%; height: auto; }
svg.plot * { stroke-linejoin: round; }
svg text { font-family: system-ui, "DejaVu Sans", sans-serif; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: .1rem 1.4rem; padding: 0;
  margin: .6rem 0 0; font-size: .88rem; }
.legend li { overflow-wrap: anywhere; }
.legend svg { width: 36px; height: 10px; margin-right: .4rem; vertical-align: middle; }
.bar { width: 130px; height: 14px; vertical-align: middle; }
.errors { display: grid; gap: .9rem; margin: .8rem 0;
  grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); }
.errors article { background: var(--panel); border-radius: 8px; overflow: hidden;
  break-inside: avoid; font-size: .88rem; }
.errors article > div { padding: .5rem .7rem .7rem; overflow-wrap: anywhere; }
.errors img, .empty { display: block; width: 100%; height: 10rem; object-fit: contain;
  background: #8882; }
.empty { display: grid; place-items: center; color: var(--soft); font-size: .84rem; }
.errors h3 { font-size: .9rem; margin: 0 0 .2rem; }
.errors ul { margin: .3rem 0 0; padding-left: 1rem; color: var(--soft); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1.2rem;
  font-size: .9rem; }
dt { color: var(--soft); max-width: 14rem; overflow-wrap: anywhere; }
dd { margin: 0; overflow-wrap: anywhere; }
code { font: .86em/1.4 ui-monospace, monospace; overflow-wrap: anywhere; }
summary { cursor: pointer; margin: .5rem 0; }
@media (max-width: 40rem) { dl { grid-template-columns: 1fr; } dd { margin-bottom: .4rem; } }
@media print {
  body { margin: 0; max-width: none; font-size: 10.5pt; }
  nav { display: none; }
  h2, h3, caption { break-after: avoid; }
  tr, .card, .notes { break-inside: avoid; }
  .card, .notes, tr.mean th, tr.mean td, tr.all th, tr.all td, tr.worst th, tr.worst td,
  svg.plot, .bar { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  .tables { display: block; }
  .wide { overflow: visible; }
  table { font-size: 7.4pt; }
  th, td { padding-right: .6em; }
  tbody th.name { min-width: 9em; }
  ol.foot, .soft, figcaption { font-size: 8.5pt; }
  .plots { gap: 0 4%; }
  .plots > figure { flex: 0 1 auto; max-width: 48%; }
  details::details-content { content-visibility: visible; block-size: auto; }
  summary { display: none; }
}
"""
)
