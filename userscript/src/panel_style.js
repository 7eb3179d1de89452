/**
 * How the panel looks. Calm by default: one accent colour, and a tone that is told by shape and word as well.
 * The bundle's oldest browsers (Chromium 110, Firefox 115) know neither nesting nor light-dark().
 */
export const STYLE = `
/* Important rules inside a shadow root win over the page's: its styles neither reach nor move us. */
:host {
  all: initial !important;
  direction: ltr !important;
  position: fixed !important;
  inset: 0 auto auto 0 !important;
  z-index: 2147483647 !important;
}
@media print { :host { display: none !important; } }

.panel {
  --surface: #ffffff; --text: #1b2027; --muted: #59616e; --line: #d8dde4; --soft: #f2f4f7; --edge: #848c99;
  --accent: #0b6b66; --on-accent: #ffffff;
  --need: #a8480b; --need-soft: #fdf1e4; --stop: #b3261e; --stop-soft: #fcecea;
  --shadow: 0 1px 2px rgb(15 23 42 / .12), 0 10px 28px rgb(15 23 42 / .16);
  box-sizing: border-box;
  position: fixed;
  max-width: calc(100vw - 24px);
  max-height: calc(100dvh - 24px);
  overflow: auto;
  overscroll-behavior: contain;
  color: var(--text);
  background: var(--surface);
  border: 1px solid var(--line);
  border-radius: 18px;
  box-shadow: var(--shadow);
  color-scheme: light dark;
  font: 13px/1.45 system-ui, -apple-system, "Segoe UI", "PingFang SC", "Microsoft YaHei", sans-serif;
  overflow-wrap: anywhere;
}
@media (prefers-color-scheme: dark) {
  .panel {
    --surface: #1a1e25; --text: #e7eaef; --muted: #a3abb8; --line: #363d49; --soft: #252b34; --edge: #7b8492;
    --accent: #5ccfc3; --on-accent: #05211e;
    --need: #f5b14c; --need-soft: #33280f; --stop: #ff8f84; --stop-soft: #3a1f1d;
    --shadow: 0 1px 2px rgb(0 0 0 / .5), 0 10px 28px rgb(0 0 0 / .5);
  }
}
.panel[data-open] { width: 280px; border-radius: 14px; }
.panel[data-corner^="bottom"] { bottom: 16px; }
.panel[data-corner^="top"] { top: 16px; }
.panel[data-corner$="right"] { right: 16px; }
.panel[data-corner$="left"] { left: 16px; }
@media (max-width: 400px) {
  .panel[data-corner$="right"] { right: 12px; }
  .panel[data-corner$="left"] { left: 12px; }
}

[hidden], .panel:not([data-open]) .body, .panel:not([data-open]) .corner { display: none !important; }

button {
  appearance: none;
  box-sizing: border-box;
  min-height: 30px;
  margin: 0;
  padding: 4px 12px;
  border: 1px solid var(--edge);
  border-radius: 8px;
  color: inherit;
  background: transparent;
  font: inherit;
  text-align: center;
  cursor: pointer;
}
button:hover { background: var(--soft); }
button:active { transform: translateY(1px); }
button:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
p, dl, dd { margin: 0; }

.head { display: flex; align-items: center; }
.toggle {
  display: flex;
  flex: 1;
  align-items: center;
  gap: 8px;
  min-height: 34px;
  padding: 6px 12px;
  border: 0;
  border-radius: 17px;
  text-align: start;
}
.toggle:focus-visible, .corner:focus-visible { outline-offset: -3px; }
.panel[data-open] .toggle { min-height: 44px; padding-inline-start: 14px; border-radius: 13px; }
.name { color: var(--muted); }
.headline { font-weight: 600; }
.chevron {
  flex: none;
  width: 6px; height: 6px;
  margin-inline-start: auto;
  border: solid var(--muted);
  border-width: 0 1.5px 1.5px 0;
}
.panel[data-corner^="bottom"]:not([data-open]) .chevron, .panel[data-corner^="top"][data-open] .chevron {
  transform: translateY(1px) rotate(-135deg);
}
.panel[data-corner^="top"]:not([data-open]) .chevron, .panel[data-corner^="bottom"][data-open] .chevron {
  transform: translateY(-2px) rotate(45deg);
}
.corner {
  display: grid;
  flex: none;
  place-items: center;
  width: 34px;
  min-height: 34px;
  padding: 0;
  border: 0;
}
.panel[data-open] .corner { margin-inline-end: 6px; }
.screen {
  position: relative;
  width: 15px; height: 12px;
  border: 1.5px solid var(--muted);
  border-radius: 3px;
}
.target { position: absolute; width: 5px; height: 4px; border-radius: 1px; background: var(--muted); }
.target[data-corner^="bottom"] { bottom: 1px; }
.target[data-corner^="top"] { top: 1px; }
.target[data-corner$="right"] { right: 1px; }
.target[data-corner$="left"] { left: 1px; }

/* A tone is a shape before it is a colour: dot, ring, bars, triangle, square. */
.shape { flex: none; box-sizing: border-box; width: 12px; height: 12px; forced-color-adjust: none; }
[data-tone="good"] .shape { border-radius: 50%; background: var(--accent); }
[data-tone="busy"] .shape {
  border: 3px solid var(--accent);
  border-radius: 50%;
  animation: breathe 1.8s ease-in-out infinite;
}
[data-tone="rest"] .shape { border: solid var(--edge); border-width: 0 4px; }
[data-tone="need"] .shape { background: var(--need); clip-path: polygon(50% 2%, 100% 96%, 0 96%); }
[data-tone="stop"] .shape { border-radius: 2px; background: var(--stop); }
[data-tone="need"] .headline { color: var(--need); }
[data-tone="stop"] .headline { color: var(--stop); }
@keyframes breathe { 50% { opacity: .35; } }
@media (prefers-reduced-motion: reduce) { [data-tone="busy"] .shape { animation: none; } }

.body { display: grid; gap: 12px; padding: 0 14px 14px; }
.advice { display: grid; gap: 8px; color: var(--muted); }
[data-tone="need"] .advice, [data-tone="stop"] .advice {
  padding: 10px 12px;
  border-radius: 10px;
  color: var(--text);
}
[data-tone="need"] .advice { background: var(--need-soft); }
[data-tone="stop"] .advice { background: var(--stop-soft); }
.reason { font-size: 12px; color: var(--muted); }
.actions { display: flex; flex-wrap: wrap; gap: 8px; }
.primary {
  border-color: var(--accent);
  color: var(--on-accent);
  background: var(--accent);
  font-weight: 600;
}
.primary:hover { background: var(--accent); filter: brightness(1.08); }

.facts { display: grid; grid-template-columns: auto 1fr; gap: 3px 14px; }
.fact { display: contents; }
dt { color: var(--muted); }
dd { text-align: end; font-variant-numeric: tabular-nums; }
.aside { display: block; color: var(--muted); }

.mode { display: grid; gap: 6px; }
.choice, .controls { display: grid; grid-template-columns: 1fr 1fr; }
.choice { padding: 2px; border-radius: 10px; background: var(--soft); }
.choice button { border-color: transparent; color: var(--muted); }
.choice button[aria-pressed="true"] {
  border-color: var(--edge);
  color: var(--text);
  background: var(--surface);
  font-weight: 600;
}
@media (forced-colors: active) {
  .choice button[aria-pressed="true"] {
    color: HighlightText;
    background: Highlight;
    forced-color-adjust: none;
  }
  .target { forced-color-adjust: none; background: CanvasText; }
}
.controls { gap: 8px; }
.small { font-size: 12px; color: var(--muted); }
.hint { display: grid; gap: 8px; justify-items: start; padding-top: 12px; border-top: 1px solid var(--line); }

.foot { display: grid; gap: 2px; padding-top: 10px; border-top: 1px solid var(--line); }

/* For ears only. */
.spoken {
  position: fixed;
  width: 1px; height: 1px;
  overflow: hidden;
  clip-path: inset(50%);
  white-space: nowrap;
}
`;
