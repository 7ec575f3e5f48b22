// The service worker that shows pushes. What it gets is the JSON that
// notify/push/webpush sends: id, title, body, url, tag, badge, silent, data.
'use strict';

self.addEventListener('install', () => self.skipWaiting());
self.addEventListener('activate', (event) => event.waitUntil(self.clients.claim()));

self.addEventListener('push', (event) => event.waitUntil(receive(read(event.data))));

// A push that cannot be read is still shown: browsers end the subscriptions of
// those who are pushed to and show nothing.
function read(data) {
  try {
    return data.json();
  } catch {
    return { title: 'Something new' };
  }
}

async function receive(message) {
  await count(message.badge);
  if (message.silent) {
    // Read on another device: what is shown of it here goes away.
    const shown = await self.registration.getNotifications(message.tag ? { tag: message.tag } : {});
    shown.forEach((notification) => notification.close());
    return;
  }
  await self.registration.showNotification(message.title || 'Something new', {
    body: message.body || '',
    tag: message.tag || message.id || '', // the same tag replaces: a repeat is not shown twice
    data: { id: message.id, url: message.url, ...message.data },
  });
}

async function count(unread) {
  if (!('setAppBadge' in navigator) || typeof unread !== 'number') return;
  try {
    await (unread > 0 ? navigator.setAppBadge(unread) : navigator.clearAppBadge());
  } catch {
    // Not installed as an app: there is no icon to count on.
  }
}

self.addEventListener('notificationclick', (event) => {
  event.notification.close();
  event.waitUntil(open(event.notification.data?.url));
});

// open shows a post in a window that is there, or in a new one.
async function open(url) {
  const target = safe(url);
  const windows = await self.clients.matchAll({ type: 'window' });
  for (const window of windows) {
    try {
      const shown = await window.navigate(target);
      await (shown ?? window).focus();
      return;
    } catch {
      // A window of another worker, or one that may not be focused: navigated it is.
      if (new URL(window.url).href === target) return;
    }
  }
  if (windows.length === 0) await self.clients.openWindow(target);
}

// safe lets no other scheme in than the web's.
function safe(url) {
  try {
    const target = new URL(url, self.location.origin);
    if (target.protocol === 'https:' || target.origin === self.location.origin) return target.href;
  } catch {
    // no URL
  }
  return self.location.origin + '/';
}
