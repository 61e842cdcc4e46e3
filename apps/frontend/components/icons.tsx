/** Drawn here: no font, no request, and they take the colour of the text. */

export const Check = () => (
  <svg viewBox="0 0 20 20" aria-hidden="true" focusable="false">
    <path d="M5 10.5l3.4 3.4L15 6.8" />
  </svg>
);

export const Cross = () => (
  <svg viewBox="0 0 20 20" aria-hidden="true" focusable="false">
    <path d="M5.5 5.5l9 9m0-9l-9 9" />
  </svg>
);
