// The page as its users see it: a buyer and a supplier in two windows, a device that sends a journey.
//
// Everything is waited for by what the page shows; nothing is reloaded, so what appears has come live.
'use strict';

const assert = require('node:assert/strict');
const fs = require('node:fs');
const path = require('node:path');
const { chromium } = require('playwright-core');

const settings = JSON.parse(fs.readFileSync(process.argv[2], 'utf8'));
const PATIENCE = 30_000;
const problems = [];

// Refusals that the page handles: the browser notes each as an error all the same.
const expected = ['status of 400', 'status of 404'];

function watch(page, name) {
  page.setDefaultTimeout(PATIENCE);
  page.on('pageerror', (error) => problems.push(`${name}: ${error.message}`));
  page.on('console', (message) => {
    if (message.type() === 'error' && !expected.some((text) => message.text().includes(text))) problems.push(`${name}: ${message.text()}`);
  });
}

async function shot(page, name) {
  if (!settings.shots) return;
  // What was done before is not what the picture is about.
  await page.evaluate(() => document.querySelector('.toast')?.replaceChildren());
  await page.screenshot({ path: path.join(settings.shots, `${name}.png`), fullPage: false });
}

async function step(name, work) {
  try {
    await work();
    console.log(`ok: ${name}`);
  } catch (error) {
    error.message = `${name}: ${error.message}`;
    throw error;
  }
}

const heading = (page, text) => page.getByRole('heading', { level: 1, name: text }).waitFor();
const nav = (page, name) => page.getByRole('navigation').getByRole('link', { name, exact: true }).click();
const fill = (page, label, text) => page.getByRole('dialog').getByLabel(label, { exact: true }).fill(text);
const send = (page, name) => page.getByRole('dialog').getByRole('button', { name, exact: true }).click();

/** Nothing is wider than the window: a phone has no room beside it. */
async function fits(page, where) {
  const wide = await page.evaluate(() => document.documentElement.scrollWidth);
  // Not innerWidth: a phone's browser makes that larger when something does not fit.
  const window = page.viewportSize().width;
  assert.ok(wide <= window, `${where} is ${wide} wide in a window of ${window}`);
}

async function signIn(browser, who, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 860 }, locale: 'en-GB', timezoneId: 'UTC', colorScheme: 'light', ...options });
  const page = await context.newPage();
  watch(page, who.name);
  await page.goto(who.link);
  await heading(page, 'Overview');
  await page.getByText(who.name.split('@')[0], { exact: true }).first().waitFor();
  return page;
}

async function edge(method, route, body) {
  const answer = await fetch(settings.edge + route, { method, headers: { 'content-type': 'application/json' }, body: body && JSON.stringify(body) });
  assert.ok(answer.ok, `${route}: ${answer.status} ${await answer.clone().text()}`);
  return answer.json();
}

/** Berlin to Milan by truck, with a warm stretch; one reading every ten minutes. */
function journey() {
  const towns = [[52.52, 13.4], [51.34, 12.37], [50.08, 11.57], [49.45, 11.08], [48.14, 11.58], [47.27, 11.39], [46.5, 11.35], [45.44, 10.99], [45.46, 9.19]];
  const readings = [];
  for (let i = 0; i < 96; i++) {
    const along = (i / 95) * (towns.length - 1);
    const [from, part] = [Math.min(Math.floor(along), towns.length - 2), along - Math.min(Math.floor(along), towns.length - 2)];
    const between = (k) => (towns[from][k] + (towns[from + 1][k] - towns[from][k]) * part).toFixed(5);
    const warm = i >= 60 && i < 66 ? 3.2 + (i - 60) * 0.3 : 0;
    readings.push({
      shipment: settings.shipment, stream: 'tracker', sequence: i + 1, time: new Date(Date.UTC(2026, 0, 12, 6, i * 10)).toISOString(),
      position: { lat: between(0), lon: between(1), accuracy: '25' },
      values: { temperature: (6 + Math.sin(i / 7) * 1.6 + warm).toFixed(1), humidity: (44 + Math.cos(i / 9) * 6).toFixed(1) },
    });
  }
  return readings;
}

async function negotiate(buyer, supplier) {
  await step('the supplier looks at an empty list', async () => {
    await nav(supplier, 'RFQs');
    await supplier.getByText('No requests here').waitFor();
  });
  await step('the buyer offers', async () => {
    await nav(buyer, 'RFQs');
    await buyer.getByRole('button', { name: 'New request' }).click();
    await fill(buyer, 'Item', 'Stainless Steel Cutting');
    await fill(buyer, 'Quantity', '200');
    await fill(buyer, 'Price', '20');
    await fill(buyer, 'Currency', 'USD');
    await fill(buyer, 'Delivery date', '2026-05-01');
    await fill(buyer, 'Own number (optional)', settings.rfq);
    const row = buyer.getByRole('dialog').locator('.row').first();
    await row.getByLabel('Sensor').fill('humidity');
    await row.getByLabel('at least').fill('0');
    await row.getByLabel('at most').fill('60');
    await shot(buyer, 'rfq-new');
    await send(buyer, 'Send the offer');
    await heading(buyer, 'Stainless Steel Cutting');
    await buyer.getByText('Waiting for Org2MSP').waitFor();
  });
  await step('it appears in the supplier\'s window, and it is his turn', async () => {
    await supplier.getByRole('link', { name: /Stainless Steel Cutting/ }).filter({ hasText: 'Your turn' }).click();
    await supplier.getByRole('button', { name: 'Accept' }).waitFor();
  });
  await step('what the contract refuses is said in the dialog', async () => {
    await supplier.getByRole('button', { name: 'Counter-offer' }).click();
    await send(supplier, 'Counter-offer');
    await supplier.getByRole('dialog').getByText('changes nothing in RFQ').waitFor();
  });
  await step('the supplier counters', async () => {
    await fill(supplier, 'Price', '30');
    await supplier.getByRole('dialog').getByRole('button', { name: '+ Add a condition' }).click();
    const row = supplier.getByRole('dialog').locator('.row').nth(1);
    await row.getByLabel('Sensor').fill('temperature');
    await row.getByLabel('at least').fill('2');
    await row.getByLabel('at most').fill('8');
    await fill(supplier, 'Note', 'Steel has become dearer; and it has to stay cool.');
    await send(supplier, 'Counter-offer');
    await supplier.getByText('Waiting for Org1MSP').waitFor();
  });
  await step('the buyer sees what changed, marked, without a reload', async () => {
    await buyer.locator('.changes ins', { hasText: '30' }).waitFor();
    await buyer.locator('.changes del', { hasText: '20' }).waitFor();
    await buyer.getByText('Steel has become dearer').waitFor();
    await shot(buyer, 'rfq');
    await buyer.getByRole('button', { name: 'Accept' }).click();
    await send(buyer, 'Accept');
    await buyer.getByText('Agreed.', { exact: true }).waitFor();
  });
  await step('both see the agreement', async () => {
    for (const page of [buyer, supplier]) await page.getByRole('heading', { name: 'The agreement' }).waitFor();
    assert.equal(await supplier.getByRole('button', { name: 'Accept' }).count(), 0);
  });
}

async function travel(buyer, supplier) {
  await step('the supplier makes a shipment of it', async () => {
    await supplier.getByRole('button', { name: 'Create the shipment' }).click();
    await fill(supplier, 'Own number (optional)', settings.shipment);
    await fill(supplier, 'Devices that may report', settings.device);
    await send(supplier, 'Create the shipment');
    await supplier.getByText('No readings yet').waitFor();
  });
  await step('the buyer finds it by its number', async () => {
    await buyer.keyboard.press('/');
    await buyer.keyboard.type(settings.shipment);
    await buyer.keyboard.press('Enter');
    await buyer.getByText('No places yet').waitFor();
  });
  await step('the device sends its journey; route, charts and violation appear', async () => {
    const readings = journey();
    for (let i = 0; i < readings.length; i += 24) {
      await edge('POST', '/v1/transactions', readings.slice(i, i + 24).map((reading) => ({ channel: 'trade', chaincode: 'shipment', function: 'recordReading', args: [reading] })));
    }
    for (const page of [buyer, supplier]) {
      await page.locator('.map path.route').waitFor();
      await page.locator('#sensor-temperature .violation').first().waitFor();
      await page.getByRole('heading', { name: /^\d+ violations$/ }).waitFor();
      await page.locator('dd', { hasText: /^96$/ }).waitFor();
    }
    await shot(buyer, 'shipment');
  });
  await step('custody passes', async () => {
    await supplier.getByRole('button', { name: 'Hand over' }).click();
    await send(supplier, 'Hand over');
    await buyer.getByRole('button', { name: 'Take over' }).click();
    await send(buyer, 'Take over');
    await buyer.getByRole('button', { name: 'Delivered' }).click();
    await send(buyer, 'Delivered');
    await supplier.locator('.head .badge', { hasText: 'delivered' }).waitFor();
    assert.equal(await supplier.locator('.line li').count(), 3);
  });
  await step('the journey is taken away as EPCIS', async () => {
    const kept = supplier.waitForEvent('download');
    await supplier.getByRole('link', { name: 'EPCIS' }).click();
    const document = JSON.parse(fs.readFileSync(await (await kept).path(), 'utf8'));
    assert.equal(document.type, 'EPCISDocument');
    assert.equal(document.epcisBody.eventList.flatMap((event) => event.sensorElementList ?? []).length, 96);
  });
}

async function explore(page) {
  await step('blocks and transactions in words', async () => {
    await nav(page, 'Blocks');
    await page.getByRole('row').nth(1).getByRole('link').first().click();
    await heading(page, /^Block \d/);
    await page.getByText('It carries the hash of the block before it').waitFor();
    await shot(page, 'block');
    await page.locator('table a code').first().click();
    await page.getByText('It is valid, and what it wrote is in force.').first().waitFor();
    await page.getByText(/^Run, and signed with the same result/).waitFor();
    await shot(page, 'transaction');
  });
  await step('one search box for everything', async () => {
    const id = await page.evaluate(() => location.hash.split('/')[3]);
    const find = async (text) => {
      await page.getByRole('searchbox').fill(text);
      await page.getByRole('searchbox').press('Enter');
    };
    await find(id.slice(0, 16));
    await page.locator('code', { hasText: id }).first().waitFor();
    await find(settings.rfq);
    await heading(page, 'Stainless Steel Cutting');
    if (settings.platform) {
      // The tender, and the deal that it has become under the same number.
      await find(settings.tender);
      for (const kind of ['Tender', 'RFQ']) await page.locator('.item .badge', { hasText: kind }).waitFor();
      await find('idea-1');
      await heading(page, 'Cutting without coolant');
      await find('p1');
      await heading(page, 'p1');
    }
    await find('0');
    await heading(page, 'Block 0');
    const hash = await page.locator('dd code').first().textContent();
    await find(hash);
    await heading(page, 'Block 0');
    await find('no such thing');
    await page.getByText('Nothing found').waitFor();
  });
  await step('the overview counts', async () => {
    await nav(page, 'Overview');
    await page.getByText('orderer0', { exact: false }).first().waitFor();
    await page.getByRole('cell', { name: 'connected' }).waitFor();
    assert.equal(await page.getByText('does not answer').count(), 0);
    await shot(page, 'overview');
  });
}

async function certify(page) {
  const file = path.join(settings.scratch, 'test-report.txt');
  fs.writeFileSync(file, 'tensile strength: 540 MPa\n');
  await step('a file is checked by its hash, certified, and found', async () => {
    await nav(page, 'Certificates');
    await page.getByLabel('Choose a file').setInputFiles(file);
    await page.getByText('Nobody has certified this file').waitFor();
    await page.getByRole('button', { name: 'Certify this file' }).click();
    await fill(page, 'Part', '4711');
    await send(page, 'Certify this file');
    await page.getByText('This is the certified file').waitFor();
    await shot(page, 'certificate');
    fs.appendFileSync(file, ' ');
    await page.getByLabel('Choose a file').setInputFiles(file);
    await page.getByText('Nobody has certified this file').waitFor();
  });
}

async function tender(buyer, supplier) {
  await step('a tender: the supplier seals an offer that nobody can read', async () => {
    await nav(buyer, 'Tenders');
    await buyer.getByText('No tenders here').waitFor();
    await buyer.getByRole('button', { name: 'New tender' }).click();
    await fill(buyer, 'Item', 'Gearbox housings');
    await fill(buyer, 'Quantity', '50');
    await fill(buyer, 'Decided by', 'lowest price');
    await fill(buyer, 'Own number (optional)', settings.tender);
    await shot(buyer, 'tender-new');
    await send(buyer, 'Open the tender');
    await heading(buyer, 'Gearbox housings');
    await nav(supplier, 'Tenders');
    await supplier.getByRole('link', { name: /Gearbox housings/ }).filter({ hasText: 'Your turn' }).click();
    await supplier.getByRole('button', { name: 'Seal an offer' }).click();
    await fill(supplier, 'Price (EUR)', '28');
    await fill(supplier, 'Note', 'from stock');
    const kept = supplier.waitForEvent('download');
    await send(supplier, 'Seal an offer');
    const file = JSON.parse(fs.readFileSync(await (await kept).path(), 'utf8'));
    assert.equal(file.tender, settings.tender);
    assert.match(file.offer, /"price":"28"/);
    await buyer.locator('td .badge', { hasText: 'sealed' }).waitFor();
    assert.equal(await buyer.getByText('from stock').count(), 0);
    await shot(buyer, 'tender-sealed');
  });
  await step('bidding is closed, the offer is revealed and awarded', async () => {
    await buyer.getByRole('button', { name: 'Bidding is over' }).click();
    await send(buyer, 'Bidding is over');
    await supplier.getByRole('button', { name: 'Reveal the offer' }).click();
    await supplier.getByRole('dialog').getByText('from stock').waitFor();
    await send(supplier, 'Reveal the offer');
    await buyer.getByRole('cell', { name: '28 EUR' }).waitFor();
    await shot(buyer, 'tender');
    await buyer.getByRole('button', { name: 'Award', exact: true }).click();
    await send(buyer, 'Award');
    await buyer.getByRole('heading', { name: 'The agreement' }).waitFor();
    await supplier.getByRole('link', { name: 'To the deal' }).click();
    await supplier.getByRole('heading', { name: 'The agreement' }).waitFor();
  });
}

async function deal(buyer, supplier) {
  await step('milestones are proposed, agreed, reported and confirmed', async () => {
    await buyer.getByRole('button', { name: 'Propose milestones' }).click();
    await buyer.getByRole('dialog').getByLabel('Milestone', { exact: true }).fill('All fifty delivered');
    await buyer.getByRole('dialog').getByLabel('Amount', { exact: true }).fill('1400');
    await send(buyer, 'Propose milestones');
    await supplier.getByRole('button', { name: 'Agree to this plan' }).click();
    await send(supplier, 'Agree to this plan');
    await supplier.getByRole('button', { name: 'Report as reached' }).click();
    await send(supplier, 'Report as reached');
    await buyer.getByRole('button', { name: 'Confirm', exact: true }).waitFor();
    await shot(buyer, 'deal');
    await buyer.getByRole('button', { name: 'Confirm', exact: true }).click();
    await send(buyer, 'Confirm');
    await supplier.getByRole('heading', { name: /^The deal/ }).locator('.badge', { hasText: 'finished' }).waitFor();
  });
  await step('the deal is rated, the rating adds up, and is replied to', async () => {
    await buyer.getByRole('button', { name: 'Rate Org2MSP' }).click();
    const form = buyer.getByRole('dialog');
    await form.getByLabel('Overall').selectOption('4');
    await form.getByLabel('Punctuality').selectOption('5');
    await form.getByLabel('In words').fill('Early, and well packed.');
    await send(buyer, 'Rate');
    await buyer.getByRole('link', { name: 'How Org2MSP is rated' }).click();
    await heading(buyer, 'Org2MSP');
    await buyer.getByText('agrees with the contract').waitFor();
    await nav(supplier, 'Partners');
    await supplier.getByRole('link', { name: /^Org2MSP/ }).click();
    await supplier.getByRole('button', { name: 'Reply' }).click();
    await supplier.getByRole('dialog').getByLabel('Your reply; it can be given once').fill('Thank you.');
    await send(supplier, 'Reply');
    await buyer.getByText('Thank you.').waitFor();
    await shot(buyer, 'partner');
    await buyer.getByLabel('As it was on').fill('2020-01-01');
    await buyer.locator('.tile b', { hasText: '0' }).first().waitFor();
    assert.equal(await buyer.getByText('Early, and well packed.').count(), 0);
  });
}

async function invent(buyer, supplier) {
  const contribute = async (title, id, more) => {
    await nav(buyer, 'Ideas');
    await buyer.getByRole('button', { name: 'New idea' }).click();
    await fill(buyer, 'Title', title);
    await fill(buyer, 'Own number (optional)', id);
    await more(buyer.getByRole('dialog'));
    await send(buyer, 'Contribute');
    await heading(buyer, title);
  };
  await step('an idea of two is agreed', async () => {
    await nav(buyer, 'Ideas');
    await buyer.getByText('No ideas here').waitFor();
    await contribute('Cutting without coolant', 'idea-1', async (form) => {
      await form.locator('.row.author').first().getByLabel('Share in percent').fill('60');
      await form.getByRole('button', { name: '+ Add an author' }).click();
      const other = form.locator('.row.author').nth(1);
      await other.getByLabel('Organisation').selectOption('Org2MSP');
      await other.getByLabel('Person').fill(settings.supplier.name);
      await other.getByLabel('Share in percent').fill('40');
    });
    await nav(supplier, 'Ideas');
    await supplier.getByRole('link', { name: /Cutting without coolant/ }).filter({ hasText: 'Your turn' }).click();
    await supplier.getByRole('button', { name: 'Agree to the shares' }).click();
    await send(supplier, 'Agree to the shares');
    await buyer.locator('.head .badge', { hasText: 'agreed' }).waitFor();
  });
  await step('another builds on it, is assessed and rewarded', async () => {
    await contribute('Cutting with cold air', 'idea-2', async (form) => {
      await form.locator('.row.author').first().getByLabel('Share in percent').fill('80');
      await form.getByRole('button', { name: '+ Add an idea that it builds on' }).click();
      await form.locator('.row.parent').getByLabel('Share in percent').fill('20');
    });
    await supplier.goto(`${settings.supplier.url}/#/trade/idea/idea-2`);
    await heading(supplier, 'Cutting with cold air');
    await supplier.getByRole('button', { name: 'Assess' }).click();
    await supplier.getByRole('dialog').getByLabel('Novelty').selectOption('9');
    await send(supplier, 'Assess');
    await buyer.getByText('9.00 (1)').waitFor();
    await supplier.getByRole('button', { name: 'Reward' }).click();
    await fill(supplier, 'Amount', '1000');
    await send(supplier, 'Reward');
    // 80 % of its own, and 60 % of the fifth that goes to the idea before.
    await buyer.getByRole('cell', { name: '920.00 EUR' }).waitFor();
    await buyer.getByRole('button', { name: 'I have received it' }).click();
    await supplier.locator('.badge', { hasText: 'received' }).waitFor();
    await shot(buyer, 'idea');
  });
}

/** A request of the page's own kind, from within it. */
const rest = (page, route, body) => page.evaluate(async ([path, data]) => {
  const answer = await fetch(`/v1/channels/trade/${path}`, { method: 'POST', headers: { 'x-selvedge-page': '1', 'content-type': 'application/json' }, body: JSON.stringify(data) });
  if (!answer.ok) throw new Error(`${path}: ${await answer.text()}`);
}, [route, body]);

async function work(page, other) {
  await step('a plant\'s steps are waiting, are reported, and are done', async () => {
    await nav(other, 'Process');
    await other.getByText('Nothing waits').waitFor();
    await rest(page, 'routes', { id: 'pump', organizations: ['Org1MSP', 'Org2MSP'], operations: [
      { station: 'press-1', task: 'press', next: [{ station: 'bench', task: 'mount' }] },
      { station: 'bench', task: 'mount', next: [{ station: 'lab', task: 'test' }], rework: [{ station: 'press-1', task: 'press' }] },
      { station: 'lab', task: 'test', rework: [{ station: 'bench', task: 'mount' }] }] });
    await rest(page, 'orders', { id: 'o1', route: 'pump', item: 'pump 80', quantity: '2' });
    await rest(page, 'orders/o1/products', { products: ['p1', 'p2'] });
    await other.getByRole('heading', { name: 'press-1 · press' }).waitFor();
    await nav(page, 'Process');
    await page.getByRole('link', { name: 'p1' }).first().click();
    await heading(page, 'p1');
    await page.getByRole('button', { name: 'Report the step' }).click();
    await send(page, 'Report the step');
    await page.getByText('bench · mount').first().waitFor();
    await page.getByRole('button', { name: 'Report the step' }).click();
    await fill(page, 'Parts built in', 'batch: seal-2026-03');
    await send(page, 'Report the step');
    await page.getByText('lab · test').first().waitFor();
    await shot(page, 'product');
    await nav(page, 'Process');
    await page.getByRole('heading', { name: 'lab · test' }).waitFor();
    await shot(page, 'process');
  });
  await step('which products hold a batch', async () => {
    await nav(page, 'Parts');
    await page.getByLabel('Product, part or batch').fill('seal-2026-03');
    await page.getByRole('button', { name: 'Show' }).click();
    await heading(page, 'seal-2026-03');
    await page.locator('.tree').getByRole('link', { name: 'p1' }).click();
    await page.locator('.tree').getByText('seal-2026-03').waitFor();
    await shot(page, 'genealogy');
  });
}

async function looks(browser, who) {
  const views = ['overview', 'rfqs', `rfq/${settings.rfq}`, 'shipments', `shipment/${settings.shipment}`, 'blocks', 'block/1', 'certificates', ...(settings.plant ? ['process', 'product/p1', 'genealogy/p1'] : []),
    ...(settings.platform ? ['tenders', `tender/${settings.tender}`, `rfq/${settings.tender}`, 'ideas', 'idea/idea-2', 'partners', 'partner/Org2MSP'] : [])];
  await step('every view fits a phone, in German and in the dark', async () => {
    const page = await signInAgain(browser, who, { viewport: { width: 390, height: 844 }, locale: 'de-DE', colorScheme: 'dark', hasTouch: true, isMobile: true, deviceScaleFactor: 2 });
    for (const view of views) {
      await page.goto(`${who.url}/#/trade/${view}`);
      await page.locator('#view h1').waitFor();
      await fits(page, view);
      await shot(page, `phone-${view.split('/')[0]}`);
    }
    await page.getByRole('navigation').getByRole('link', { name: 'Sendungen' }).waitFor();
    await page.context().close();
  });
  await step('dark on a desk', async () => {
    const page = await signInAgain(browser, who, { viewport: { width: 1280, height: 860 }, locale: 'de-DE', colorScheme: 'dark' });
    for (const view of ['overview', `shipment/${settings.shipment}`, `rfq/${settings.rfq}`, ...(settings.platform ? [`tender/${settings.tender}`, 'idea/idea-2', 'partner/Org2MSP'] : [])]) {
      await page.goto(`${who.url}/#/trade/${view}`);
      await page.locator('#view h1').waitFor();
      await shot(page, `dark-${view.split('/')[0]}`);
    }
    await page.context().close();
  });
}

/** A further window for somebody: with the cookie of the first. */
async function signInAgain(browser, who, options) {
  const context = await browser.newContext({ timezoneId: 'UTC', ...options, storageState: who.state });
  const page = await context.newPage();
  watch(page, `${who.name} again`);
  await page.goto(who.url);
  await page.locator('#view h1').waitFor();
  return page;
}

async function withoutAccount(browser, who) {
  await step('a used link is refused, and a stranger sees how to sign in', async () => {
    const page = await (await browser.newContext({ locale: 'en-GB' })).newPage();
    page.setDefaultTimeout(PATIENCE);
    await page.goto(who.link);
    await page.getByText('The link was used already', { exact: false }).or(page.getByText('the link was used already', { exact: false })).waitFor();
    await page.context().close();
  });
  await step('who has not signed in has the public view', async () => {
    const page = await (await browser.newContext({ locale: 'en-GB' })).newPage();
    watch(page, 'visitor');
    await page.goto(`${who.url}/#/trade/rfq/${settings.rfq}`);
    await page.getByText('This is the public view').waitFor();
    assert.equal(await page.getByText('Stainless').count(), 0);
    for (const name of ['Process', 'Ideas']) assert.equal(await page.getByRole('link', { name }).count(), 0);
    if (settings.platform) {
      await page.goto(`${who.url}/#/trade/tender/${settings.tender}`);
      await page.getByText('This is the public view').waitFor();
      assert.equal(await page.getByText('Gearbox').count(), 0);
      await page.goto(`${who.url}/#/trade/partner/Org2MSP`);
      await page.locator('.tile b', { hasText: '4.00' }).waitFor();
      assert.equal(await page.getByText('Early, and well packed.').count(), 0);
    }
    await page.context().close();
  });
}

async function troubles(page) {
  await step('an unknown thing and an absent server are told, and trying again helps', async () => {
    expected.push('net::ERR_FAILED', 'ERR_CONNECTION');
    await page.goto(`${page.url().split('#')[0]}#/trade/rfq/no-such`);
    await page.getByText('There is no such thing here').waitFor();
    await page.route('**/v1/overview', (route) => route.abort());
    await nav(page, 'Overview');
    await page.getByText('The server does not answer').waitFor();
    await shot(page, 'error');
    await page.unroute('**/v1/overview');
    await page.getByRole('button', { name: 'Try again' }).click();
    await page.getByText('Blocks per hour').first().waitFor();
  });
  await step('the keyboard is enough', async () => {
    await page.keyboard.press('/');
    assert.equal(await page.evaluate(() => document.activeElement.type), 'search');
    await page.goto(`${page.url().split('#')[0]}#/trade/rfqs`);
    await heading(page, 'RFQs');
    const reached = new Set();
    for (let i = 0; i < 30; i++) {
      await page.keyboard.press('Tab');
      reached.add(await page.evaluate(() => document.activeElement.textContent.trim().slice(0, 30)));
    }
    assert.ok(reached.has('New request'), [...reached].join(' | '));
    assert.ok([...reached].some((text) => text.startsWith('Stainless')), [...reached].join(' | '));
  });
  await step('signing out ends it', async () => {
    await page.getByRole('button', { name: 'Sign out' }).click();
    await page.getByText('Visitor').waitFor();
  });
}

(async () => {
  const browser = await chromium.launch({
    executablePath: settings.chromium,
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
  });
  let pages = [];
  try {
    const buyer = await signIn(browser, settings.buyer);
    const supplier = await signIn(browser, settings.supplier);
    pages = [buyer, supplier];
    settings.buyer.state = await buyer.context().storageState();
    await negotiate(buyer, supplier);
    await travel(buyer, supplier);
    if (settings.certify) await certify(buyer);
    if (settings.plant) await work(buyer, supplier);
    if (settings.platform) {
      await tender(buyer, supplier);
      await deal(buyer, supplier);
      await invent(buyer, supplier);
    }
    await explore(buyer);
    await looks(browser, settings.buyer);
    await withoutAccount(browser, settings.buyer);
    await troubles(buyer);
    assert.deepEqual(problems, [], 'the browser complained');
    console.log('all steps passed');
  } catch (error) {
    for (const [i, page] of pages.entries()) {
      await page.screenshot({ path: path.join(settings.scratch, `failed-${i}.png`) }).catch(() => {});
      console.log(`window ${i} was at ${page.url()}; a picture is in ${settings.scratch}/failed-${i}.png`);
      console.log(await page.locator('body').innerText().catch(() => ''));
    }
    console.log(problems.join('\n'));
    throw error;
  } finally {
    await browser.close();
  }
})().catch((error) => {
  console.error(error.stack);
  process.exit(1);
});
