// Says what became of a repair: every host's image has come, and with it the word to forget, or one has not.
const images = [...document.querySelectorAll("img[data-repair]")];

function say(outcome) {
  for (const part of document.querySelectorAll("[data-outcome]")) {
    part.hidden = part.dataset.outcome !== outcome;
  }
}

Promise.all(images.map((image) => image.decode())).then(() => say("done"), () => say("failed"));
