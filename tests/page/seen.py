"""What is on the page, by what it is called."""

from playwright.sync_api import Locator, Page, expect


def live(page: Page) -> None:
    """Waits until it hears of what happens."""
    expect(page.locator("#state")).to_contain_text("live")


def tasks(page: Page) -> Locator:
    return page.get_by_role("region", name="Tasks", exact=True)


def row(page: Page, task: int) -> Locator:
    """The line of a task in the table."""
    return tasks(page).get_by_role("row").filter(has=page.get_by_role("rowheader", name=str(task), exact=True))


def band(page: Page, queue: str = "default") -> Locator:
    """The slots of a queue."""
    return page.get_by_role("region", name="Slots").get_by_role("article").filter(has_text=queue)


def drawer(page: Page, task: int) -> Locator:
    return page.get_by_role("complementary", name=f"Task {task}", exact=True)


def sign_in(page: Page, key: str) -> None:
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Sign in").click()
