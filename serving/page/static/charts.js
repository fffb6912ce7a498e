// Bar charts as SVG. A chart has a fixed size, so that nothing moves when it is drawn again.

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 24;

function draw(svg, width, bars) {
  svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
  while (svg.children.length > bars.length) {
    svg.lastChild.remove();
  }
  bars.forEach(({ x, width: barWidth, share, kind }, index) => {
    const rect = svg.children[index] ?? svg.appendChild(document.createElementNS(SVG, "rect"));
    const height = HEIGHT * share;
    rect.setAttribute("class", kind);
    rect.setAttribute("x", x);
    rect.setAttribute("y", (HEIGHT - height).toFixed(2));
    rect.setAttribute("width", barWidth);
    rect.setAttribute("height", height.toFixed(2));
  });
}

/** Draw two bars for each bin: the share of the reference and that of the live rows. */
export function drawPairs(svg, reference, live) {
  const highest = Math.max(...reference, ...live) || 1;
  const bars = [];
  reference.forEach((share, index) => {
    bars.push({ x: 3 * index + 0.3, width: 1.2, share: share / highest, kind: "reference" });
    bars.push({ x: 3 * index + 1.5, width: 1.2, share: live[index] / highest, kind: "live" });
  });
  draw(svg, 3 * reference.length, bars);
}

/** Draw one bar for each count. */
export function drawCounts(svg, counts) {
  const highest = Math.max(...counts) || 1;
  const bars = counts.map((count, index) => {
    return { x: index + 0.1, width: 0.8, share: count / highest, kind: "live" };
  });
  draw(svg, counts.length, bars);
}
