// Makes this browser a device that is pushed to, and shows what the server's
// RegisterDevice wants to know of it.
'use strict';

const byId = (id) => document.getElementById(id);
const key = new URLSearchParams(location.search).get('key');

function say(text) {
  byId('state').textContent = text;
}

// base64 as JSON carries bytes to the API.
function base64(buffer) {
  return btoa(String.fromCharCode(...new Uint8Array(buffer)));
}

function show(subscription) {
  byId('subscribe').hidden = Boolean(subscription) || !key;
  byId('unsubscribe').hidden = !subscription;
  byId('device').hidden = !subscription;
  if (!subscription) {
    say(key ? 'Off.' : 'Off. Open this page with ?key= and the server\'s key.');
    return;
  }
  say('On.');
  byId('registration').textContent = JSON.stringify({
    endpoint: subscription.endpoint,
    p256dh: base64(subscription.getKey('p256dh')),
    auth: base64(subscription.getKey('auth')),
  }, null, 2);
}

async function start() {
  if (!('serviceWorker' in navigator)) {
    say('This browser knows no service workers, or the page did not come over https.');
    return;
  }
  await navigator.serviceWorker.register('sw.js');
  const registration = await navigator.serviceWorker.ready;
  if (!registration.pushManager) {
    say('This browser takes no pushes. On an iPhone, add the page to the home screen first.');
    return;
  }
  byId('subscribe').addEventListener('click', async () => {
    try {
      show(await registration.pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: key }));
    } catch (err) {
      say(`Not possible: ${err.message}`);
    }
  });
  byId('unsubscribe').addEventListener('click', async () => {
    await (await registration.pushManager.getSubscription())?.unsubscribe();
    show(null);
  });
  // Shown at each start: browsers change subscriptions, and the server keeps the last.
  show(await registration.pushManager.getSubscription());
}

start().catch((err) => say(`Not possible: ${err.message}`));
