// The provider gets no fragment: it stays in this tab, and a cookie tells the callback that there is one.
const on = document.getElementById("on");
if (location.hash) {
  sessionStorage.setItem(`usher-fragment-${on.dataset.try}`, location.hash);
  document.cookie = `__Host-usher-fragment-${on.dataset.try}=1; Secure; Path=/; SameSite=Lax; Max-Age=600`;
}
location.replace(on.href);
