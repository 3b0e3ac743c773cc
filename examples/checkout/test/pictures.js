// Pictures of the page, for people: `node pictures.js FOLDER`.

import { join } from 'node:path'
import { paid, pay, settled, startBrowser, startExample, visit } from './support.js'

const folder = process.argv[2] ?? '.'
const [example, browser] = await Promise.all([startExample(), startBrowser()])
try {
  for (const width of [360, 1200]) for (const colorScheme of ['light', 'dark']) for (const naive of [false, true]) {
    const options = { fault: 'lose-answer', naive, colorScheme, viewport: { width, height: width > 800 ? 800 : 740 } }
    const { page, context } = await visit(browser, example.url, options)
    const shot = (name) => page.screenshot({ path: join(folder, `${width}-${colorScheme}${naive ? '-without' : ''}-${name}.png`), fullPage: true })
    if (!naive) await shot('form')
    await pay(page)
    await paid(page)
    await settled(page)
    await page.waitForTimeout(300)
    await shot('paid')
    await context.close()
  }
  // The one for the README.
  const { page } = await visit(browser, example.url, { fault: 'crash', viewport: { width: 960, height: 660 } })
  await pay(page)
  await paid(page)
  await settled(page)
  await page.evaluate(() => document.activeElement.blur())
  await page.screenshot({ path: join(folder, 'checkout.png'), fullPage: true })
} finally {
  await browser.close()
  example.stop()
}
