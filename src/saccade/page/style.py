"""The one style sheet: a column of readable text, light and dark, from a phone to a wide screen."""

CSS = """
:root{color-scheme:light dark;--paper:#fbfaf7;--card:#fff;--ink:#1d2129;--soft:#4a515e;--mute:#858d9a;
--line:#e6e3dc;--cell:#f4f2ec;--a:#2563c9;--b:#d9582b;--c:#1c8f72;--d:#8a4fc4;--e:#b8860b;--f:#68707d;--on:#fff}
@media (prefers-color-scheme:dark){:root{--paper:#14161a;--card:#1b1e24;--ink:#eceef2;--soft:#b9c0cb;--mute:#8991a0;
--line:#2c313a;--cell:#22262d;--a:#6ea2ff;--b:#ff8c5f;--c:#4ecba6;--d:#bf93f2;--e:#e2b84a;--f:#9aa3b2;--on:#10131a}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 ui-sans-serif,system-ui,-apple-system,
"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;font-variant-numeric:tabular-nums;-webkit-text-size-adjust:100%}
main{max-width:1080px;margin:0 auto;padding:56px 28px 96px}
header{margin-bottom:36px}
.eyebrow{font-size:12.5px;font-weight:600;letter-spacing:.1em;text-transform:uppercase;color:var(--mute)}
h1{font-size:clamp(30px,5vw,46px);line-height:1.12;letter-spacing:-.022em;font-weight:680;margin:6px 0 10px;
overflow-wrap:anywhere}
h2{font-size:22px;letter-spacing:-.012em;font-weight:640;margin:0 0 4px}
h3{font-size:16px;margin:0 0 2px;overflow-wrap:anywhere}
section{margin-top:52px}
p{margin:0 0 14px;color:var(--soft);max-width:70ch}
p b{color:var(--ink);font-weight:620}
code{font:.9em ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;overflow-wrap:anywhere}
.tiles{display:grid;grid-template-columns:repeat(4,1fr);gap:12px}
.tiles.fit{grid-template-columns:repeat(auto-fit,minmax(150px,1fr));margin-top:24px}
.tile,.card,figure{background:var(--card);border:1px solid var(--line);border-radius:14px}
.tile{padding:16px 18px 14px;margin:0}
.tile dt{font-size:13px;color:var(--mute);font-weight:560}
.tile dd{margin:2px 0 0;font-size:30px;line-height:1.2;font-weight:660;letter-spacing:-.02em}
.tile dd small{font-size:.52em;font-weight:560;color:var(--soft);margin-left:2px;letter-spacing:0}
.tile .range{font-size:12.5px;color:var(--mute);margin-top:2px}
.tile.lead dd{font-size:44px;color:var(--a)}
.tile.lead{grid-column:span 2}
.grid2{margin-top:16px;display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr));gap:16px}
figure{margin:16px 0 0;padding:18px 18px 12px;overflow-x:auto}
.grid2 figure{margin:0}
figcaption{font-size:13.5px;color:var(--mute);margin-bottom:8px;font-weight:560}
svg{display:block;width:100%;height:auto;margin:0 auto;font:12px ui-sans-serif,system-ui,-apple-system,
"Segoe UI",Roboto,Arial,sans-serif;overflow:visible}
svg text{fill:var(--mute)} svg .name,svg .key{fill:var(--soft);font-size:12.5px}
svg .grid{stroke:var(--line);stroke-width:1} svg .axis,svg .tick{stroke:var(--mute);stroke-width:1}
svg .line{fill:none;stroke-width:2.2;stroke-linejoin:round;stroke-linecap:round}
svg .ideal{stroke:var(--soft);stroke-width:1.4;stroke-dasharray:4 4}
svg .cell{fill:var(--cell)} svg .count{font-weight:600}
svg .count.on{fill:var(--on)} svg .count.off{fill:var(--ink)}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,300px),1fr));gap:16px;margin-top:16px}
.charts figure{margin:0}
.card{margin-top:18px;padding:18px} .card .sub{font-size:13px;color:var(--mute);margin:0 0 12px;max-width:none}
.strip{display:flex;gap:8px;overflow-x:auto;padding-bottom:6px}
.strip div{flex:0 0 auto;width:min(300px,78vw)} .strip img{display:block;width:100%;border-radius:8px}
.strip small{font-size:11.5px;color:var(--mute)}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,330px),1fr));gap:22px;margin-top:14px;
align-items:center}
.scroll{overflow-x:auto;margin-top:16px;background:var(--card);border:1px solid var(--line);border-radius:14px}
.card .scroll{border:0;border-top:1px solid var(--line);border-radius:0}
table{border-collapse:collapse;width:100%;font-size:14.5px}
th{font-size:12.5px;font-weight:600;color:var(--mute);text-align:right;padding:11px 16px;white-space:nowrap}
td{padding:8px 16px;text-align:right;border-top:1px solid var(--line);white-space:nowrap}
th:first-child,td:first-child{text-align:left}
table.plain th{text-align:left;font-weight:560;white-space:normal;vertical-align:top;border-top:1px solid var(--line)}
table.plain td{text-align:left;white-space:normal;overflow-wrap:anywhere}
table.plain tr:first-child>*{border-top:0}
td.text{white-space:normal;text-align:left;min-width:260px;overflow-wrap:anywhere} th.text{text-align:left}
td.wide{min-width:150px}
.dot{display:inline-block;width:11px;height:11px;border-radius:3px;margin-right:8px}
.bar{display:block;position:relative;height:8px;border-radius:4px;background:var(--cell);margin-top:3px}
.bar i{position:absolute;inset:0 auto 0 0;border-radius:4px;background:var(--a);opacity:.85}
.bar b{position:absolute;top:-3px;height:14px;border-left:1.5px solid var(--ink);border-right:1.5px solid var(--ink);
opacity:.5}
.shots{display:grid;grid-template-columns:repeat(auto-fill,minmax(148px,1fr));gap:14px;margin-top:16px}
.shot{overflow:hidden;border-radius:12px;background:var(--card);border:1px solid var(--line)}
.shot img,.shot .none{display:block;width:100%;aspect-ratio:1;object-fit:cover;background:var(--cell)}
.shot img.tiny{image-rendering:pixelated}
.shot div{padding:9px 12px 11px;font-size:13.5px;line-height:1.4;overflow-wrap:anywhere}
.shot .answer{color:var(--b);font-weight:640} .shot .truth{color:var(--c);font-weight:640}
.shot small{display:block;color:var(--mute);font-size:11.5px;margin-top:3px}
details{margin-top:14px} summary{cursor:pointer;color:var(--soft);font-weight:560}
footer{margin-top:64px;padding-top:18px;border-top:1px solid var(--line);font-size:13px;color:var(--mute)}
@media (max-width:720px){.tiles{grid-template-columns:1fr 1fr}}
@media (max-width:560px){main{padding:32px 16px 64px}section{margin-top:40px}figure{padding:14px 10px 8px}
td,th{padding:8px 10px}
.tile dd{font-size:25px}.tile.lead dd{font-size:40px}
.shots{grid-template-columns:1fr 1fr}}
@media print{body{background:#fff}section{break-inside:avoid}}
"""

SVG_CSS = (
    "text{font:13px system-ui,sans-serif;fill:#212529}.h{font-weight:600}.m{fill:#868e96;font-size:12px}"
)
"""Of a drawing that is a file of its own, on white."""
