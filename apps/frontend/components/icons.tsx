/** Inline: need no font and no request, and have the colour of the text. */
const icon = (path: string, fill?: "currentcolor") =>
  function Icon() {
    return (
      <svg viewBox="0 0 20 20" aria-hidden="true">
        <path d={path} fill={fill} />
      </svg>
    );
  };

export const Bin = icon("M4 6h12M8 6V4h4v2M5.5 6l.7 10h7.6l.7-10M8.5 9v4m3-4v4");
export const Check = icon("M5 10.5l3.4 3.4L15 6.8");
export const Cross = icon("M5.5 5.5l9 9m0-9l-9 9");
export const Send = icon("M10 16V4.5M5 9.5l5-5 5 5");
export const Spark = icon("M9 3.5l1.5 4.2 4.2 1.5-4.2 1.5L9 14.9l-1.5-4.2-4.2-1.5 4.2-1.5zM15.5 13v4m-2-2h4");
export const Stop = icon("M6 6h8v8h-8z", "currentcolor");
