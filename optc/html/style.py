"""The look of the report, in light and in dark."""

CSS = """
:root {
  --page: #fbfbfa; --card: #ffffff; --ink: #1c1d1f; --soft: #6a6d73; --line: #e4e4e1; --edge: #0003;
  --before: #b9bec7; --after: #2f6fde; --good: #1a7f4b; --bad: #c0392b; --warn: #a66a00;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #131417; --card: #1b1d21; --ink: #e8e8e6; --soft: #9a9da5; --line: #2f3238; --edge: #000a;
    --before: #5a606b; --after: #6ea2ff; --good: #58c48b; --bad: #ff7b6b; --warn: #e0a94a;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 2.5rem 1.5rem 4rem; max-width: 68rem; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; font-variant-numeric: tabular-nums; overflow-wrap: break-word;
}
@media (max-width: 32rem) { body { padding: 1.5rem 1rem 3rem; } }
h1 { font-size: 1.5rem; margin: 0; }
h2 { font-size: 1.05rem; margin: 2.5rem 0 .75rem; }
p.sub, figcaption, .soft { color: var(--soft); }
p.sub { margin: .25rem 0 1.5rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .75rem; }
.card, figure, .box {
  background: var(--card); border: 1px solid var(--line); border-radius: .6rem;
  padding: .9rem 1.1rem; margin: 0;
}
.card b { display: block; font-size: 1.6rem; line-height: 1.25; }
.card span { color: var(--soft); font-size: .85rem; }
figure { max-width: 40rem; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(24rem, 100%), 1fr)); gap: .75rem; }
.box {
  overflow-x: auto; padding: .3rem .6rem;
  /* shadows where there is more to scroll to; the upper two move along and cover them at the ends */
  background:
    linear-gradient(to right, var(--card) 35%, transparent) left local,
    linear-gradient(to left, var(--card) 35%, transparent) right local,
    linear-gradient(to right, var(--edge), transparent) left scroll,
    linear-gradient(to left, var(--edge), transparent) right scroll, var(--card);
  background-size: 2.5rem 100%, 2.5rem 100%, .9rem 100%, .9rem 100%; background-repeat: no-repeat;
}
table { border-collapse: collapse; width: 100%; }
th { text-align: left; font-weight: 600; color: var(--soft); font-size: .82rem; }
th, td { padding: .45rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top; }
tr:last-child td { border-bottom: 0; }
td:first-child { min-width: 8rem; } td:first-child + td:not(.n) { min-width: 7rem; }
td code { overflow-wrap: anywhere; }
td.n, th.n { text-align: right; white-space: nowrap; }
tr.total td, tr.asked td { font-weight: 600; }
.box:focus-visible, summary:focus-visible { outline: 2px solid var(--after); outline-offset: 2px; }
code { font: .86em ui-monospace, monospace; }
.good { color: var(--good); } .bad { color: var(--bad); } .warn { color: var(--warn); }
svg { display: block; width: 100%; height: auto; overflow: visible; }
svg text { fill: var(--ink); font: 11px system-ui, sans-serif; }
svg .soft { fill: var(--soft); }
svg .before { fill: var(--before); } svg .after { fill: var(--after); }
svg .line { stroke: var(--after); fill: none; opacity: .55; }
svg .hollow { fill: var(--card); stroke: var(--after); stroke-width: 1.8; }
svg .axis { stroke: var(--line); } svg .roof { stroke: var(--warn); fill: none; stroke-width: 1.5; }
figcaption { margin-bottom: .5rem; font-size: .85rem; }
details { margin: .35rem 0; } summary { cursor: pointer; }
.key { margin: .5rem 0 0; font-size: .85rem; }
.key i { display: inline-block; width: .7rem; height: .7rem; border-radius: .15rem; margin: 0 .3rem 0 .8rem; }
"""
