// Replays a run of EM on the picture of the home page. The run is the package's own, made when the book
// was built: the page holds its ellipses and responsibilities. Under five seconds, once; not at all
// where motion is not wanted.
(() => {
  const svg = document.getElementById("hero");
  if (!svg) return;

  const caption = document.getElementById("hero-step");
  const again = document.getElementById("hero-again");
  const run = JSON.parse(document.getElementById("hero-trace").textContent);
  const dots = [...svg.querySelectorAll(".dots circle")];
  const components = [...svg.querySelectorAll(".comp")];
  const last = run.iterations.length - 1;
  const PAUSE = 330; // ms, a step of the algorithm

  const colour = (frame) =>
    dots.forEach((dot, i) => dot.style.setProperty("--g", `${run.shares[frame][i]}%`));
  const move = (frame) =>
    components.forEach((component, k) => {
      component.style.transform = run.ellipses[frame][k];
    });
  const tell = (frame) => {
    const value = run.logLikelihoods[frame].toFixed(1).replace("-", "\u2212");
    const name = frame === last ? "Converged after" : "After";
    const n = run.iterations[frame];
    caption.textContent = `${name} ${n} ${n === 1 ? "iteration" : "iterations"}: log-likelihood ${value}`;
  };

  let timer;
  const step = (frame) => {
    svg.classList.add("moves");
    colour(frame - 1); // the E-step, from the ellipses that stand there
    timer = setTimeout(() => {
      move(frame); // the M-step
      tell(frame);
      if (frame < last) timer = setTimeout(step, PAUSE, frame + 1);
      else colour(last);
    }, PAUSE / 2);
  };
  const play = () => {
    clearTimeout(timer);
    svg.classList.remove("moves");
    dots.forEach((dot) => dot.style.setProperty("--g", "50%"));
    move(0);
    tell(0);
    timer = setTimeout(step, 2 * PAUSE, 1);
  };

  tell(last);
  again.hidden = false;
  again.addEventListener("click", play);
  if (!matchMedia("(prefers-reduced-motion: reduce)").matches) setTimeout(play, 600);
})();
