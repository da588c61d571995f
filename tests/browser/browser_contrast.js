// Checks the contrast that WCAG 2.2 requires, with the colours that the browser computed: 4.5:1 for text,
// 3:1 for large text (1.4.3), and 3:1 for the outline or the fill of a control (1.4.11).
() => {
  const channels = (colour) => {
    const [r, g, b, a = 1] = colour.match(/[\d.]+/g).map(Number);
    return { r, g, b, a };
  };
  const over = (top, below) => ({
    r: top.r * top.a + below.r * (1 - top.a),
    g: top.g * top.a + below.g * (1 - top.a),
    b: top.b * top.a + below.b * (1 - top.a),
    a: 1,
  });
  const luminance = ({ r, g, b }) => {
    const [R, G, B] = [r, g, b].map((value) => {
      const part = value / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * R + 0.7152 * G + 0.0722 * B;
  };
  const ratio = (first, second) => {
    const [dark, light] = [luminance(first), luminance(second)].sort((a, b) => a - b);
    return (light + 0.05) / (dark + 0.05);
  };
  const canvas = () => {
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    const scheme = getComputedStyle(document.documentElement).colorScheme;
    return channels(dark && scheme.includes("dark") ? "rgb(18, 18, 18)" : "rgb(255, 255, 255)");
  };
  const background = (element) => {
    const layers = [];
    for (let node = element; node !== null; node = node.parentElement) {
      layers.push(channels(getComputedStyle(node).backgroundColor));
    }
    return layers.reverse().reduce((below, layer) => over(layer, below), canvas());
  };
  const visible = (element) =>
    element.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true }) &&
    element.getClientRects().length > 0;
  const label = (element) =>
    `<${element.tagName.toLowerCase()}> "${element.textContent.trim().slice(0, 40)}"`;

  const faults = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !visible(element)) continue;
    if (element.closest("script, style, noscript, :disabled")) continue;
    const style = getComputedStyle(element);
    const behind = background(element);
    const contrast = ratio(over(channels(style.color), behind), behind);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    const needed = large ? 3 : 4.5;
    if (contrast < needed) faults.push(`${label(element)}: ${contrast.toFixed(2)} < ${needed}`);
  }
  for (const control of document.querySelectorAll("button, input:not([type=hidden]), select")) {
    if (!visible(control) || control.disabled) continue;
    const around = background(control.parentElement);
    const style = getComputedStyle(control);
    // WCAG 1.4.11 exempts controls that the browser draws in its own style.
    if (control.type === "checkbox" && style.appearance === "auto") continue;
    const edge = parseFloat(style.borderTopWidth) > 0 ? channels(style.borderTopColor) : null;
    const best = Math.max(
      edge === null ? 1 : ratio(over(edge, around), around),
      ratio(background(control), around),
    );
    if (best < 3) faults.push(`${label(control)} outline: ${best.toFixed(2)} < 3`);
  }
  return faults;
}
