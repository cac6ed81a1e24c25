// A form loses the fragment of the address that it leads back to; its own address may carry it.
const form = document.getElementById("login");
form.addEventListener("submit", () => {
  form.action = "/login" + location.hash;
});
