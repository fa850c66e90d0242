"""What a page is read by: a script that says the contrast of every text on it."""

CONTRASTS = """() => {
  const rgba = text => { const n = text.match(/[\\d.]+/g).map(Number);
    return [...n, 1].slice(0, 4); };
  const over = (a, b) => [0, 1, 2].map(i => a[i] * a[3] + b[i] * (1 - a[3])).concat(1);
  const ground = e => { let layers = [];
    for (; e; e = e.parentElement) layers.push(rgba(getComputedStyle(e).backgroundColor));
    return layers.reduceRight((below, layer) => over(layer, below), [255, 255, 255, 1]); };
  const light = c => { const [r, g, b] = c.slice(0, 3).map(v => (v /= 255) <= 0.04045 ?
    v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const found = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement, said = walk.currentNode.data.trim();
    if (!said || !e.getClientRects().length) continue;
    const below = ground(e), style = getComputedStyle(e);
    const [a, b] = [light(over(rgba(style.color), below)), light(below)];
    found.push([(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), said]);
  }
  return found;
}"""
