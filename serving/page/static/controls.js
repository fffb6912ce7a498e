// The controls of the form: what they hold as a row, and how a row is put into them.

/** One feature: its control, and whether its value is missing or outside the training range. */
class Control {
  constructor(element) {
    this.element = element;
    this.kind = element.dataset.control;
    this.name = element.dataset.name;
    this.input = element.querySelector("select, textarea, input:not([type=range])");
    this.slider = element.querySelector("input[type=range]");
    this.missing = element.querySelector(".missing input");
    this.outside = element.querySelector(".outside");
    if (this.slider) {
      this.slider.addEventListener("input", () => this.readSlider());
    }
    // What is typed in is not missing.
    this.input.addEventListener("input", () => this.setMissing(false));
    this.show();
  }

  readSlider() {
    const { minimum, maximum, decimals } = this.element.dataset;
    const rounded = Number(Number(this.slider.value).toFixed(Number(decimals)));
    this.input.value = Math.min(Number(maximum), Math.max(Number(minimum), rounded));
    this.setMissing(false);
  }

  setMissing(isMissing) {
    if (this.missing) {
      this.missing.checked = isMissing;
    }
  }

  get isMissing() {
    return this.missing?.checked ?? false;
  }

  /** Return whether the control holds a value that can be sent. */
  get isValid() {
    const isNumber = this.kind === "slider" || this.kind === "number";
    return !isNumber || this.isMissing || (this.input.value !== "" && this.input.validity.valid);
  }

  get value() {
    if (this.isMissing) {
      return null;
    }
    switch (this.kind) {
      case "list":
        return JSON.parse(this.input.value);
      case "switch":
        return this.input.checked;
      case "text":
        return this.input.value;
      default:
        return Number(this.input.value);
    }
  }

  set value(value) {
    this.setMissing(value === null);
    if (this.kind === "list") {
      this.input.value = JSON.stringify(value);
    } else if (this.kind === "switch") {
      this.input.checked = value;
    } else if (value !== null) {
      this.input.value = value;
    }
    this.show();
  }

  /** Move the slider to the number, and mark what is missing or outside the training range. */
  show() {
    this.element.classList.toggle("is-missing", this.isMissing);
    if (!this.slider) {
      return;
    }
    const number = Number(this.input.value);
    if (this.isValid && !this.isMissing && document.activeElement !== this.slider) {
      this.slider.value = number;
    }
    const { minimum, maximum } = this.element.dataset;
    const isOutside = number < Number(minimum) || number > Number(maximum);
    const marked = this.isValid && !this.isMissing && isOutside;
    const text = marked ? "outside the training range" : "";
    if (this.outside.textContent !== text) {
      this.outside.textContent = text;
    }
    this.element.classList.toggle("is-outside", marked);
  }
}

export function findControls(form) {
  return [...form.querySelectorAll(".feature")].map((element) => new Control(element));
}
