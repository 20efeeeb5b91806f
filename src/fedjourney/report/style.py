"""The page's look and its one small script; nothing is fetched, and the page forbids itself to."""

from fedjourney.report.words import esc

CSS = """
:root{color-scheme:light dark;--page:#fbfbf9;--card:#fff;--ink:#1b1b19;--soft:#5c5b56;--rule:#e4e3dd;
--grid:#ecebe6;
--warn:#fff4dc;--warn-rule:#e6b84f;--c0:#2a78d6;--c1:#eb6834;--c2:#1baf7a;--c3:#4a3aa7;--c4:#e34948;
--c5:#d39a00;
--c6:#d55f95;--c7:#008300}
@media(prefers-color-scheme:dark){:root{--page:#151514;--card:#1d1d1b;--ink:#eceae4;--soft:#a5a39b;
--rule:#33322e;
--grid:#2b2a27;--warn:#33290f;--warn-rule:#8a6a1c;--c0:#5598e7;--c1:#ee7c4d;--c2:#2bbd88;--c3:#9d93ea;
--c4:#ec7170;
--c5:#d9a520;--c6:#dd77a6;--c7:#3fae45}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",
Roboto,
"Helvetica Neue","Liberation Sans",sans-serif;-webkit-text-size-adjust:100%}
main,footer{max-width:1080px;margin:0 auto;padding:0 24px}
header{padding:48px 0 8px}
h1{font-size:1rem;font-weight:600;color:var(--soft);margin:0 0 8px;overflow-wrap:anywhere}
.result{font-size:clamp(1.45rem,4.2vw,2.3rem);line-height:1.2;letter-spacing:-.015em;font-weight:600;
margin:0;
max-width:26em;text-wrap:balance;overflow-wrap:anywhere}
h2{font-size:1.15rem;margin:52px 0 14px;letter-spacing:-.005em}
h3{font-size:.82rem;margin:0 0 6px;padding-bottom:5px;border-bottom:1px solid var(--rule);color:var(--soft);
font-weight:600}
p{margin:0 0 12px;max-width:70ch}
.said,.none,.digest{color:var(--soft)}
.digest{font-size:.88rem;margin-top:14px}
.digest code{user-select:all;overflow-wrap:anywhere;display:block;padding:8px 0 0 16px}
.note{background:var(--warn);border-left:3px solid var(--warn-rule);padding:10px 14px;margin:18px 0 0;
max-width:none;
border-radius:0 6px 6px 0;overflow-wrap:anywhere}
.note ul{margin:0;padding-left:18px}
.facts{display:grid;grid-template-columns:repeat(auto-fill,minmax(150px,1fr));gap:18px 24px;margin:28px 0 0;
padding:20px 0;
border:solid var(--rule);border-width:1px 0}
.facts dt{font-size:.8rem;color:var(--soft)}
.facts dd{margin:0;font-size:1.15rem;font-weight:600;font-variant-numeric:tabular-nums;
overflow-wrap:anywhere}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr));gap:16px}
.charts>.chart:only-child{max-width:508px}
figure{margin:0;min-width:0;position:relative;background:var(--card);border:1px solid var(--rule);
border-radius:10px;
padding:14px 16px 8px}
figcaption{font-weight:600;font-size:.92rem;margin-bottom:8px}
.unit{font-weight:400;color:var(--soft)}
svg{display:block;width:100%;height:auto;font:11.5px system-ui,-apple-system,"Segoe UI",Roboto,
"Liberation Sans",sans-serif;
font-variant-numeric:tabular-nums}
svg text{fill:var(--soft)}svg .name{fill:var(--ink)}
.part{max-width:674px}.wide svg{max-width:none}.wide>svg{max-width:100%}
.pixels{image-rendering:pixelated;max-width:100%;height:auto;display:block}
.exhibit{display:grid;gap:16px}
.grid{stroke:var(--grid)}
.line{fill:none;stroke:var(--c);stroke-width:2;stroke-linejoin:round;stroke-linecap:round}
.leader{fill:none;stroke:var(--c);opacity:.55}.key{stroke:var(--c);stroke-width:3}
.gap{margin:2px 0 6px;font-size:.82rem;color:var(--soft)}
.legend{display:flex;flex-wrap:wrap;gap:2px 14px;font-size:.8rem}.legend svg{display:inline;width:22px}
.band{fill:var(--c);opacity:.14}
circle,rect{fill:var(--c)}rect:hover,circle:hover{opacity:.65}
.cursor{stroke:var(--soft);stroke-dasharray:2 3}
.c0{--c:var(--c0)}.c1{--c:var(--c1)}.c2{--c:var(--c2)}.c3{--c:var(--c3)}
.c4{--c:var(--c4)}.c5{--c:var(--c5)}.c6{--c:var(--c6)}.c7{--c:var(--c7)}
.tip{position:absolute;pointer-events:none;background:var(--ink);color:var(--page);font-size:.78rem;
line-height:1.4;
padding:6px 9px;border-radius:6px;white-space:pre;font-variant-numeric:tabular-nums;z-index:1;
max-width:100%;overflow:hidden}
.scroll{overflow-x:auto;max-width:100%}
.scroll:focus-visible,summary:focus-visible{outline:2px solid var(--c0);outline-offset:2px}
table{border-collapse:collapse;font-size:.88rem;font-variant-numeric:tabular-nums;min-width:min(100%,420px)}
th,td{text-align:left;padding:6px 18px 6px 0;border-bottom:1px solid var(--rule);vertical-align:top}
thead th{color:var(--soft);font-weight:600;white-space:nowrap}tbody th{font-weight:500}
.figures td,.figures th+th{text-align:right;white-space:nowrap}
.figures tbody th{white-space:nowrap}tr>:last-child{padding-right:2px}.words td:last-child{min-width:230px}
.unseen{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
details{margin:12px 0 0}
summary{cursor:pointer;color:var(--soft);font-size:.88rem;width:fit-content}
details>:not(summary){margin-top:10px}
.tables{columns:300px 3;column-gap:36px}
.tables section{break-inside:avoid;padding-bottom:22px}
.tables dl{display:grid;grid-template-columns:minmax(0,auto) minmax(0,1fr);gap:2px 16px;margin:0;
font-size:.88rem}
.tables dt{color:var(--soft)}.tables dd{margin:0;overflow-wrap:anywhere;font-variant-numeric:tabular-nums}
code,pre{font:.86em/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,"Liberation Mono",monospace}
pre{background:var(--card);border:1px solid var(--rule);border-radius:8px;padding:12px 16px;overflow-x:auto;
margin:0 0 12px}
footer{margin-top:56px;padding-bottom:40px;color:var(--soft);font-size:.85rem}
@media(max-width:600px){main,footer{padding:0 16px}header{padding-top:28px}h2{margin-top:40px}
figure{padding:12px 10px 6px}.facts{grid-template-columns:1fr 1fr}svg{font-size:12.3px}}
@media print{body{background:#fff}figure,pre{break-inside:avoid}}
"""

JS = """
for (const svg of document.querySelectorAll("svg[data-hover]")) {
  const points = JSON.parse(svg.dataset.hover), cursor = svg.querySelector(".cursor");
  const title = svg.querySelector("title");
  const tip = document.createElement("div");
  tip.className = "tip"; tip.hidden = true; tip.setAttribute("aria-hidden", "true"); svg.after(tip);
  svg.setAttribute("aria-label", title.textContent); title.remove();
  svg.addEventListener("pointermove", event => {
    const box = svg.getBoundingClientRect(), scale = box.width / svg.viewBox.baseVal.width;
    const x = (event.clientX - box.left) / scale;
    const near = points.reduce((a, b) => Math.abs(b[0] - x) < Math.abs(a[0] - x) ? b : a);
    cursor.setAttribute("x1", near[0]); cursor.setAttribute("x2", near[0]);
    tip.textContent = near[1].join("\\n"); tip.hidden = false;
    const room = svg.parentElement.clientWidth - tip.offsetWidth - 4, at = svg.offsetLeft || box.left -
      svg.parentElement.getBoundingClientRect().left;
    tip.style.left = Math.max(4, Math.min(room, at + near[0] * scale + 10)) + "px";
    tip.style.top = "44px";
  });
  svg.addEventListener("pointerleave", () => {
    tip.hidden = true; cursor.setAttribute("x1", -9); cursor.setAttribute("x2", -9);
  });
}
"""

POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


def document(title: str, body: str) -> str:
    """Return a whole page; `body` is HTML, `title` is text."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width,initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f'<title>{esc(title)} · fedjourney</title>\n<link rel="icon" href="data:,">\n'
        f"<style>{CSS}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n"
        "<footer>Written by fedjourney report. This page is one file and asks for nothing from the network."
        f"</footer>\n<script>{JS}</script>\n</body>\n</html>\n"
    )
