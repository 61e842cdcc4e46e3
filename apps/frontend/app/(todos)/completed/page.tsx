/** An address of its own for this filter; what it shows is in the layout, which the three share. */
export default function Page() {
  return null;
}
