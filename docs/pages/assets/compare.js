// The comparison page: two sliders choose a picture. Solvers, calls and errors are those of the page's table.
document.addEventListener("DOMContentLoaded", () => {
  const box = document.getElementById("compare");
  if (!box) return;
  const find = (name) => box.querySelector(`[data-part="${name}"]`);
  const table = document.querySelector("#compare-table table");
  const cells = (row) => [...row.cells].slice(1).map((cell) => cell.textContent.trim());
  const rows = [...table.tBodies[0].rows];
  const solvers = rows.map((row) => row.cells[0].textContent.trim());
  const errors = rows.map(cells);
  const calls = cells(table.tHead.rows[0]).map((text) => parseInt(text));
  const address = (solver, n) => `compare/${solver}-${n}.png`;
  const picture = find("picture");

  const choose = (name, values, start) => {
    const slider = find(name);
    slider.max = values.length - 1;
    slider.value = values.indexOf(start);
    slider.addEventListener("input", show);
    return () => {
      const value = values[slider.value];
      slider.setAttribute("aria-valuetext", value);
      find(`${name}-value`).textContent = value;
      return value;
    };
  };

  function show() {
    const name = solver();
    const n = count();
    const error = errors[solvers.indexOf(name)][calls.indexOf(n)];
    picture.src = address(name, n);
    picture.alt = `40 digits by ${name} in ${n} calls`;
    find("caption").textContent = `${name}, ${n} calls: RMSE ${error}`;
  }

  const solver = choose("solver", solvers, "dpmpp-2m");
  const count = choose("calls", calls, 6);
  box.hidden = false;
  show();
  // All pictures are 0.6 MB: load them now, so that a slider never waits.
  for (const name of solvers) for (const n of calls) new Image().src = address(name, n);
});
