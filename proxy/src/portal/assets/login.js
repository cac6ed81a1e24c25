// A form loses the fragment of the address that it leads back to; its own address may carry it. So may a link's.
document.getElementById("login")?.addEventListener("submit", (event) => {
  event.target.action = "/login" + location.hash;
});
for (const link of document.querySelectorAll("a[data-departure]")) {
  link.hash = location.hash;
}
