/** As components/icons.tsx: drawn here, in the colour of the text. */

export const Spark = () => (
  <svg viewBox="0 0 20 20" aria-hidden="true" focusable="false">
    <path d="M9 3.5l1.5 4.2 4.2 1.5-4.2 1.5L9 14.9l-1.5-4.2-4.2-1.5 4.2-1.5zM15.5 13v4m-2-2h4" />
  </svg>
);

export const Send = () => (
  <svg viewBox="0 0 20 20" aria-hidden="true" focusable="false">
    <path d="M10 16V4.5M5 9.5l5-5 5 5" />
  </svg>
);

export const Stop = () => (
  <svg viewBox="0 0 20 20" aria-hidden="true" focusable="false">
    <rect x="5.5" y="5.5" width="9" height="9" rx="1.5" fill="currentcolor" />
  </svg>
);

export const Bin = () => (
  <svg viewBox="0 0 20 20" aria-hidden="true" focusable="false">
    <path d="M4 6h12M8 6V4h4v2M5.5 6l.7 10h7.6l.7-10M8.5 9v4m3-4v4" />
  </svg>
);
