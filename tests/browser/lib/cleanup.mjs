// cleanup returns a function that takes steps to be done after the test, the last one first.
export function cleanup(t) {
  const steps = [];
  t.after(async () => {
    for (const step of steps.reverse()) await step();
  });
  return (step) => steps.push(step);
}
