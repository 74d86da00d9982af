// Pen input: strokes on white paper, of one width whatever the pressure, exported as a PNG.

const INK_SHARE = 0.0045; // width of the line over the paper's: a ball pen on paper as wide as a hand
const EXPORT_PX = 1200; // what the paper's whole width becomes
const MARGIN_PX = 60;
const SHORTEST_INK_PX = 1.8; // on screen, so that the line is seen

/** Paper on a canvas. Points are kept in paper widths, so that turning a phone loses nothing. */
export class Paper {
  #canvas;
  #strokes = [];
  #onChange;

  constructor(canvas, onChange) {
    this.#canvas = canvas;
    this.#onChange = onChange;
    canvas.addEventListener("pointerdown", (event) => this.#begin(event));
    canvas.addEventListener("pointermove", (event) => this.#go(event));
    new ResizeObserver(() => this.#draw()).observe(canvas);
  }

  get isBlank() {
    return this.#strokes.length === 0;
  }

  undo() {
    this.#strokes.pop();
    this.#changed();
  }

  clear() {
    this.#strokes = [];
    this.#changed();
  }

  /** Black ink on white, cut to the ink with a margin; null while nothing is written. */
  png() {
    if (this.isBlank) return Promise.resolve(null);
    const xs = this.#strokes.flat().map(([x]) => x * EXPORT_PX);
    const ys = this.#strokes.flat().map(([, y]) => y * EXPORT_PX);
    const [left, top] = [least(xs) - MARGIN_PX, least(ys) - MARGIN_PX];
    const sheet = document.createElement("canvas");
    sheet.width = Math.ceil(-least(xs.map((x) => -x)) + MARGIN_PX - left);
    sheet.height = Math.ceil(-least(ys.map((y) => -y)) + MARGIN_PX - top);
    const context = sheet.getContext("2d");
    context.fillStyle = "#fff";
    context.fillRect(0, 0, sheet.width, sheet.height);
    context.translate(-left, -top);
    ink(context, this.#strokes, EXPORT_PX, INK_SHARE * EXPORT_PX);
    return new Promise((resolve) => sheet.toBlob(resolve, "image/png"));
  }

  #begin(event) {
    if (!event.isPrimary || event.button !== 0) return;
    event.preventDefault();
    this.#canvas.setPointerCapture(event.pointerId);
    this.#strokes.push([this.#point(event)]);
    this.#changed();
  }

  #go(event) {
    if (!event.isPrimary || !this.#canvas.hasPointerCapture(event.pointerId)) return;
    const moves = event.getCoalescedEvents?.() ?? [];
    this.#strokes.at(-1)?.push(...(moves.length ? moves : [event]).map((move) => this.#point(move)));
    this.#draw();
  }

  #point(event) {
    const paper = this.#canvas.getBoundingClientRect();
    return [(event.clientX - paper.left) / paper.width, (event.clientY - paper.top) / paper.width];
  }

  #changed() {
    this.#draw();
    this.#onChange();
  }

  #draw() {
    const { clientWidth: width, clientHeight: height } = this.#canvas;
    if (!width) return;
    this.#canvas.width = Math.round(width * devicePixelRatio);
    this.#canvas.height = Math.round(height * devicePixelRatio);
    const context = this.#canvas.getContext("2d");
    context.scale(devicePixelRatio, devicePixelRatio);
    ink(context, this.#strokes, width, Math.max(SHORTEST_INK_PX, INK_SHARE * width));
  }
}

const least = (values) => values.reduce((a, b) => Math.min(a, b), Infinity);

/** Draws strokes as curves through the middles between their points. */
function ink(context, strokes, scale, width) {
  Object.assign(context, {
    lineWidth: width,
    lineCap: "round",
    lineJoin: "round",
    strokeStyle: "#111",
  });
  for (const stroke of strokes) {
    const points = stroke.map(([x, y]) => [x * scale, y * scale]);
    context.beginPath();
    context.moveTo(...points[0]);
    points.slice(1).forEach(([x, y], index) => {
      const [fromX, fromY] = points[index];
      context.quadraticCurveTo(fromX, fromY, (fromX + x) / 2, (fromY + y) / 2);
    });
    context.lineTo(...points.at(-1));
    context.stroke();
  }
}
