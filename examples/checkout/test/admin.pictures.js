// Pictures of the page for operators, for people: `node admin.pictures.js FOLDER`.

import { join } from 'node:path'
import { crash, operate, startAdmin } from './admin.support.js'
import { startBrowser } from './support.js'

const folder = process.argv[2] ?? '.'
const browser = await startBrowser()
try {
  for (const abandoned of [0, 1, 10_000]) {
    const example = await startAdmin(abandoned)
    try {
      if (abandoned == 1) await crash(example.url, '4711')
      for (const width of [360, 1400]) for (const colorScheme of ['light', 'dark']) {
        const { page, context } = await operate(browser, example.url, { colorScheme, viewport: { width, height: 800 } })
        const shot = (name) => page.screenshot({ path: join(folder, `admin-${abandoned}-${width}-${colorScheme}-${name}.png`), fullPage: true })
        await shot('overview')
        await page.getByRole('link', { name: 'Abandoned', exact: true }).click()
        await shot('list')
        if (abandoned == 1) {
          const row = page.getByRole('row').filter({ hasText: 'order 4711' })
          await row.getByRole('link').click()
          await page.getByText('Forget this record').click()
          await shot('record')
          await page.locator('form').filter({ hasText: 'It was done' }).evaluate((form) => { form.noValidate = true })
          await page.getByRole('button', { name: 'Send this answer' }).click()
          await shot('mistake')
          await page.getByRole('link', { name: 'Completed' }).click()
          await page.locator('tbody a').first().click()
          await page.getByRole('button', { name: 'Show body' }).click()
          await shot('revealed')
        }
        await context.close()
      }
    } finally {
      example.stop()
    }
  }
  // The one for the README.
  const example = await startAdmin()
  const { page } = await operate(browser, example.url, { viewport: { width: 1100, height: 700 } })
  await page.screenshot({ path: join(folder, 'admin.png') })
  example.stop()
} finally {
  await browser.close()
}
