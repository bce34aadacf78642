"""The one style sheet of all pages: light and dark, wide and narrow, screen and paper."""

STYLE = """
:root { color-scheme: light dark;
  --paper: #fff; --ink: #1c1e21; --muted: #62676e; --rule: #e1e3e6; --soft: #f5f6f7;
  --c1: #1f5fa8; --c2: #b8561b; --c3: #2f7d4f; --c4: #7a4aa0; --c5: #8a6d00; --c6: #a8324f;
  --p1: #c9d6e6; --p2: #93b4d6; --p3: #5b8fc4; --p4: #27659f; --p5: #0b3560; --warn: #b8561b;
  --shade: #1c1e2126 }
@media (prefers-color-scheme: dark) { :root {
  --paper: #15171a; --ink: #e4e6e9; --muted: #9aa0a8; --rule: #2e3238; --soft: #1d2024;
  --c1: #6ea8e8; --c2: #e59a66; --c3: #71c393; --c4: #b993dd; --c5: #d0b44c; --c6: #e57f98;
  --p1: #2c4058; --p2: #3f6794; --p3: #5b92cc; --p4: #93c0ee; --p5: #dcecfd; --warn: #e59a66;
  --shade: #e4e6e92e } }
* { box-sizing: border-box }
html { -webkit-text-size-adjust: 100% }
body { font: 15px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif; color: var(--ink);
  background: var(--paper); max-width: 66rem; margin: 0 auto; padding: 2rem 1.25rem 4rem }
h1 { font-size: 1.6rem; line-height: 1.2; font-weight: 600; margin: 0; overflow-wrap: anywhere }
h2 { font-size: 1.1rem; font-weight: 600; margin: 3rem 0 .4rem; padding-top: .7rem;
  border-top: 1px solid var(--rule) }
h3 { font-size: .95rem; font-weight: 600; margin: 1.6rem 0 .2rem }
p { margin: .4rem 0 .9rem; max-width: 44rem } .lead { color: var(--muted); margin-top: .3rem }
.note, figcaption, caption { color: var(--muted); font-size: .86rem }
a { color: var(--c1); text-decoration: none } a:hover { text-decoration: underline }
nav { margin: 1rem 0 0; font-size: .86rem; line-height: 1.9 } nav a { margin-right: 1rem }
code, pre { font: .86em/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace }
code { overflow-wrap: anywhere }
pre { background: var(--soft); padding: .7rem .9rem; white-space: pre-wrap;
  overflow-wrap: anywhere; margin: .4rem 0 1rem }
.wide { overflow-x: auto; margin: .3rem 0 1.2rem; background-repeat: no-repeat;
  background-image: linear-gradient(to right, var(--paper), var(--paper)),
    linear-gradient(to right, var(--paper), var(--paper)),
    linear-gradient(to right, var(--shade), transparent),
    linear-gradient(to left, var(--shade), transparent);
  background-size: 1.2rem 100%, 1.2rem 100%, .8rem 100%, .8rem 100%;
  background-position: left, right, left, right;
  background-attachment: local, local, scroll, scroll }
table { border-collapse: collapse; font-size: .9rem }
th { font-weight: 500; color: var(--muted); vertical-align: bottom }
td, th { padding: .24rem 1.1rem .24rem 0; border-bottom: 1px solid var(--rule); text-align: left }
td { vertical-align: top } thead th { border-bottom-color: var(--muted) }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums }
td.n, .short { white-space: nowrap }
tr.strong td { font-weight: 600 } td.name { overflow-wrap: anywhere; min-width: 6rem }
td.long { min-width: 16rem }
th button { all: unset; cursor: pointer } th button:hover { color: var(--ink) }
th button:focus-visible { outline: 2px solid var(--c1); outline-offset: 2px }
th[aria-sort] { color: var(--ink) } th[aria-sort] button::after { content: " ↓" }
th[aria-sort=ascending] button::after { content: " ↑" }
.figures { display: flex; flex-wrap: wrap; gap: .4rem 2.4rem; margin: 1.4rem 0 .6rem }
.figures div { min-width: 5rem } .figures b { display: block; font-size: 1.5rem; line-height: 1.25;
  font-weight: 600; font-variant-numeric: tabular-nums }
.figures span { color: var(--muted); font-size: .82rem }
.charts { display: grid; gap: 1rem 2rem;
  grid-template-columns: repeat(auto-fill, minmax(min(20rem, 100%), 1fr)) }
figure { margin: .3rem 0 .6rem; min-width: 0 } figure.one { max-width: 42rem }
figcaption { color: var(--ink); font-weight: 500; margin-bottom: .2rem }
svg { display: block; width: 100%; height: auto; overflow: visible }
svg text { font: 11px system-ui, sans-serif; fill: var(--muted);
  font-variant-numeric: tabular-nums }
svg text.on { fill: var(--ink); paint-order: stroke;
  stroke: var(--paper); stroke-width: 3px }
.ring { fill: none; stroke: var(--ink); stroke-width: 1.2 }
.grid { stroke: var(--rule); stroke-width: 1 }
.axis { stroke: var(--muted); stroke-width: 1 }
.line { fill: none; stroke-width: 1.8; stroke-linejoin: round }
.dashed { stroke-dasharray: 5 4 } .band { opacity: .2 } .hollow { fill: none; opacity: .45 }
.spot.best { fill: var(--c2) }
.spot { fill: var(--paper); stroke: var(--ink); stroke-width: 1.4 }
.hit { stroke: transparent; stroke-width: 9; pointer-events: all }
.whisker { stroke: var(--ink); stroke-width: 1.2; opacity: .65 }
.f1 { fill: var(--c1) } .f2 { fill: var(--c2) } .f3 { fill: var(--c3) }
.f4 { fill: var(--c4) } .f5 { fill: var(--c5) } .f6 { fill: var(--c6) }
.s1 { stroke: var(--c1) } .s2 { stroke: var(--c2) } .s3 { stroke: var(--c3) }
.s4 { stroke: var(--c4) } .s5 { stroke: var(--c5) } .s6 { stroke: var(--c6) }
.d1 { fill: var(--p1) } .d2 { fill: var(--p2) } .d3 { fill: var(--p3) }
.d4 { fill: var(--p4) } .d5 { fill: var(--p5) }
.advice { border-left: 3px solid var(--warn); padding-left: .8rem }
.key { display: inline-block; width: .75em; height: .75em; border-radius: 50%;
  margin: 0 .35em 0 0; vertical-align: -.05em }
.entry { display: inline-block; margin-right: .9em }
.b1 { background: var(--c1) } .b2 { background: var(--c2) } .b3 { background: var(--c3) }
.b4 { background: var(--c4) } .b5 { background: var(--c5) } .b6 { background: var(--c6) }
.q1 { background: var(--p1) } .q2 { background: var(--p2) } .q3 { background: var(--p3) }
.q4 { background: var(--p4) } .q5 { background: var(--p5) }
.cards { display: grid; gap: .6rem 2.2rem;
  grid-template-columns: repeat(auto-fill, minmax(min(18rem, 100%), 1fr)) }
.card { border-top: 1px solid var(--rule); padding: .6rem 0; min-width: 0; font-size: .9rem }
.card ol { margin: .3rem 0; padding-left: 1.5rem } .card p { margin: .1rem 0 }
.card li { overflow-wrap: anywhere } .card .right { color: var(--c3); font-weight: 600 }
details { margin: .6rem 0 } summary { cursor: pointer; color: var(--muted); font-size: .9rem }
@media (max-width: 40rem) { body { padding: 1.2rem 1rem 3rem; font-size: 16px }
  .one svg text { font-size: 17px } .one svg .more { display: none }
  h2 { margin-top: 2.2rem } td, th { padding-right: .8rem } }
@media print { body { max-width: none } nav { display: none } h2 { break-after: avoid } }
""".strip()
