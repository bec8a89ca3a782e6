// Signs in as a person with a browser does: follows redirects, keeps cookies, fills in forms.
//
//   NODE_EXTRA_CA_CERTS=CA.pem node browser.mjs URL NAME [cancel]
//
// Goes on until it is back at http://127.0.0.1, and prints that address, and how it was answered, as JSON.
const [start, name, cancel] = process.argv.slice(2);
const cookies = new Map();

async function go(url, form) {
  const at = new URL(url);
  const cookie = [...cookies.values()].filter((c) => at.pathname.startsWith(c.path)).map((c) => c.pair).join('; ');
  const response = await fetch(url, {
    redirect: 'manual',
    method: form ? 'POST' : 'GET',
    body: form && new URLSearchParams(form),
    headers: cookie ? { cookie } : {},
  });
  for (const line of response.headers.getSetCookie()) {
    const pair = line.split(';')[0];
    const path = /;\s*path=([^;]+)/i.exec(line)?.[1] ?? '/';
    cookies.set(`${pair.split('=')[0]} ${path}`, { pair, path });
  }
  return response;
}

let [url, form] = [start, undefined];
for (let step = 0; step < 20; step += 1) {
  const response = await go(url, form);
  const next = response.headers.get('location');
  if (new URL(url).protocol === 'http:') {
    console.log(JSON.stringify({ url, status: response.status, page: await response.text() }));
    process.exit(0);
  }
  form = undefined;
  if (next) {
    url = new URL(next, url).href;
    continue;
  }
  const page = await response.text();
  const action = /<form[^>]*action="([^"]+)"/.exec(page)?.[1];
  if (!action) {
    console.log(JSON.stringify({ url, status: response.status, page }));
    process.exit(0);
  }
  const abort = /href="([^"]*\/abort)"/.exec(page)?.[1];
  if (cancel && abort) {
    url = new URL(abort, url).href;
    continue;
  }
  url = new URL(action, url).href;
  const prompt = /name="prompt" value="([^"]+)"/.exec(page)?.[1];
  form = prompt === 'login' ? { prompt, login: name, password: 'of no use' } : { prompt };
}
throw new Error(`no way back from ${url}`);
